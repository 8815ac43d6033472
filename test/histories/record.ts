/**
 * Records the histories that test/integration/workflows/replay.test.ts replays. By hand, once per release:
 * `TEMPORAL_ADDRESS=host:port TEMPORAL_NAMESPACE=name npx tsx test/histories/record.ts <release>`; the namespace has to be registered.
 */
import { randomUUID } from 'node:crypto';
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { Context } from '@temporalio/activity';
import type { WorkflowHandle } from '@temporalio/client';
import { ApplicationFailure } from '@temporalio/common';
import { pino } from 'pino';
import type { StepCall } from '../../activities/step-activities.js';
import { failureCodes } from '../../contract/failure.js';
import type { FirstGrant } from '../../contract/line.js';
import type { Plan } from '../../contract/plan.js';
import { generalQueue, hostQueue, workflowQueue } from '../../contract/queues.js';
import type { ResidencyOrder } from '../../contract/residency.js';
import { connectClient, connectNative } from '../../temporal/client.js';
import { createActivityWorker, createWorkflowWorker } from '../../temporal/worker.js';
import { orderSignal } from '../../workflows/change-residency.messages.js';
import { grantSignal, lostSignal, prioritySignal, refusedSignal } from '../../workflows/run-task.messages.js';
import { createMemoryLine, grantOf, granted, waiting } from '../support/memory-line.js';
import { chain, planOf, planStep } from '../support/plans.js';

const [release] = process.argv.slice(2);
const { TEMPORAL_ADDRESS: address, TEMPORAL_NAMESPACE: namespace } = process.env;
if (!release || !address || !namespace) throw new Error('Give the release as argument, and TEMPORAL_ADDRESS and TEMPORAL_NAMESPACE by the environment.');

const client = await connectClient({ address, namespace });
const native = await connectNative({ address, namespace });
const cacheDir = await mkdtemp(path.join(tmpdir(), 'bundle-'));
const failing = (type: string, claimed = true) => ApplicationFailure.create({ type, message: `${type} happened`, nonRetryable: true, details: [{ claimed }] });

interface TaskCase {
  readonly plan: Plan;
  readonly first?: FirstGrant;
  readonly answer?: Parameters<typeof createMemoryLine>[0];
  readonly perform?: (call: StepCall, nth: number) => unknown;
  readonly act?: (run: WorkflowHandle, started: Promise<void>) => Promise<unknown>;
}
const one = planOf(planStep('only'));
const tasks: Record<string, TaskCase> = {
  'chain-of-three': { plan: chain(planStep('clone'), planStep('run'), planStep('store')) },
  'parallel-with-failure': {
    plan: planOf(planStep('waits'), planStep('fails')),
    answer: (request, tryNo) => (request.step.id === 'waits' ? waiting(request, tryNo) : granted(request, tryNo)),
    perform: () => {
      throw failing('script_failed');
    },
  },
  retries: {
    plan: one,
    perform: (_call, nth) => {
      if (nth < 3) throw ApplicationFailure.retryable('again', 'script_failed', { claimed: true });
    },
  },
  'waiting-then-granted': { plan: one, answer: waiting, act: (run) => run.signal(grantSignal, grantOf('only-1')) },
  refused: { plan: one, answer: waiting, act: (run) => run.signal(refusedSignal, { row: 'only-1', code: 'model_not_found', message: 'no such model', retryable: false }) },
  'cancelled-while-waiting': { plan: one, answer: waiting, act: async (run, entered) => entered.then(() => run.cancel()) },
  'cancelled-while-running': { plan: one, perform: () => Context.current().cancelled, act: async (run, started) => started.then(() => run.cancel()) },
  'skipped-by-when': { plan: chain(planStep('only'), planStep('after')), answer: (request, tryNo) => (request.step.id === 'only' ? { state: 'skipped' } : granted(request, tryNo)) },
  'lost-grant': {
    plan: one,
    perform: (_call, nth) => {
      if (nth === 1) throw failing(failureCodes.grantVoid, false);
    },
  },
  'first-granted': { plan: chain(planStep('only'), planStep('after')), first: { step: 'only', grant: grantOf('only-0') } },
  'first-grant-lost': {
    plan: one,
    first: { step: 'only', grant: grantOf('only-0') },
    perform: (_call, nth) => {
      if (nth === 1) throw failing(failureCodes.grantVoid, false);
    },
  },
  'lost-while-running': {
    plan: one,
    perform: (_call, nth) => (nth === 1 ? Context.current().cancelled.catch(() => {}) : undefined),
    act: async (run, started) => started.then(() => run.signal(lostSignal, 'only-1')),
  },
  'granted-anew': {
    plan: one,
    perform: (call) => (call.grant.grantId === 'anew' ? undefined : Context.current().cancelled.catch(() => {})),
    act: async (run, started) => started.then(() => run.signal(grantSignal, grantOf('only-1', 'anew'))),
  },
  stale: { plan: one, answer: () => ({ state: 'stale' }) },
  'priority-change': { plan: one, answer: waiting, act: async (run) => [await run.signal(prioritySignal, 100), await run.signal(grantSignal, grantOf('only-1'))] },
};

async function recordTask(name: string, { plan, first, answer, perform, act }: TaskCase): Promise<void> {
  let begun = () => {};
  const started = new Promise<void>((resolve) => (begun = resolve));
  const base = answer ?? granted;
  const line = createMemoryLine((request, tryNo) => {
    const entered = base(request, tryNo);
    if (entered.state === 'waiting') begun();
    return entered;
  });
  const counts = new Map<string, number>();
  const test_step = async (call: StepCall) => {
    const nth = (counts.get(call.step) ?? 0) + 1;
    counts.set(call.step, nth);
    const beats = setInterval(() => Context.current().heartbeat(), 500);
    begun();
    try {
      await perform?.(call, nth);
      return { executionId: `${call.step}-${nth}`, outputBytes: 2 };
    } finally {
      clearInterval(beats);
    }
  };
  const steps = await createActivityWorker({ connection: native, namespace: namespace ?? '', taskQueue: generalQueue, activities: { test_step }, slots: 5, graceMs: 1_000 });
  await record('run-task', name, { enter: line.enter, leave: line.leave, close: line.close }, steps, async () => {
    const taskId = randomUUID();
    const run = await client.workflow.start('runTask', { workflowId: `task-${taskId}`, taskQueue: workflowQueue, args: [{ taskId, attempt: 1, plan, exact: 50, priorityLevels: 60, hearsLost: true, ...(first ? { first } : {}) }] });
    await act?.(run, started);
    return run;
  });
}

const order = (id: string, unload: readonly string[], load = true): ResidencyOrder => ({
  id,
  host: 'local',
  hostEpoch: 1,
  unload,
  load: load ? { key: 'a:latest~ctx4096', model: { name: 'a:latest', numCtx: 4096 } } : null,
});
const changes: Record<string, { orders: readonly ResidencyOrder[]; loads: readonly ('serving' | 'missing' | 'fails')[] }> = {
  load: { orders: [order('1', [])], loads: ['serving'] },
  'unload-and-load': { orders: [order('1', ['b:latest~ctx4096'])], loads: ['serving'] },
  'fetch-first': { orders: [order('1', [])], loads: ['missing'] },
  fetch: { orders: [{ ...order('1', []), pull: 'a:latest' }], loads: [] },
  'failed-abandoned': { orders: [order('1', [])], loads: ['fails'] },
  'two-orders': { orders: [order('1', []), order('2', ['a:latest~ctx4096'], false)], loads: ['serving'] },
};

async function recordChange(name: string, { orders, loads }: (typeof changes)[string]): Promise<void> {
  const answers = [...loads];
  const activities = {
    drainAndUnload: async () => 'done',
    pullModel: async () => 'done',
    loadAndServe: async () => {
      const answer = answers.shift();
      if (answer === 'fails') throw ApplicationFailure.nonRetryable('it does not fit', 'model_too_large', { retryable: false });
      return answer;
    },
  };
  const host = await createActivityWorker({ connection: native, namespace: namespace ?? '', taskQueue: hostQueue('local'), activities, slots: 1, graceMs: 1_000 });
  await record('change-residency', name, { abandonOrder: async () => {}, fetchFirst: async () => {}, fetched: async () => 'done' }, host, async () => {
    const run = await client.workflow.start('changeResidency', { workflowId: `residency-${randomUUID()}`, taskQueue: workflowQueue, args: [{ host: 'local', orders: orders.slice(0, 1) }] });
    for (const more of orders.slice(1)) await run.signal(orderSignal, more);
    return run;
  });
}

async function record(
  workflow: string,
  name: string,
  activities: object,
  host: Awaited<ReturnType<typeof createActivityWorker>>,
  begin: () => Promise<WorkflowHandle>,
): Promise<void> {
  const worker = await createWorkflowWorker({ connection: native, namespace: namespace ?? '', activities, log: pino({ level: 'silent' }), cacheDir });
  const history = await worker.runUntil(
    host.runUntil(async () => {
      const run = await begin();
      await run.result().catch(() => {}); // some cases end failed or cancelled
      return run.fetchHistory();
    }),
  );
  const directory = path.join(import.meta.dirname, workflow, release ?? '');
  await mkdir(directory, { recursive: true });
  await writeFile(path.join(directory, `${name}.json`), `${JSON.stringify(history, withoutMachine)}\n`);
}

try {
  for (const [name, task] of Object.entries(tasks)) await recordTask(name, task);
  for (const [name, change] of Object.entries(changes)) await recordChange(name, change);
} finally {
  await native.close();
  await client.connection.close();
  await rm(cacheDir, { recursive: true });
}

/** Replay needs neither; they name the machine that recorded. */
function withoutMachine(key: string, value: unknown): unknown {
  return key === 'stackTrace' || key === 'identity' ? '' : value;
}
