import { randomUUID } from 'node:crypto';
import type { JsonObject } from '../../../contract/json.js';
import type { Entered, Grant, RunIdentity } from '../../../contract/line.js';
import type { Plan, PlanStep } from '../../../contract/plan.js';
import { residencyKey } from '../../../contract/queues.js';
import type { Sql } from '../../../db/connect.js';
import { acquireHost, type HostRoom, oneModel, registerEngine, setHostReady } from '../../../db/leases.js';
import { createLine } from '../../../db/line.js';
import { insertTask, type NewTask } from '../../../db/tasks.js';
import { soleFirstStep } from '../../../scheduling/plan-progress.js';
import { priorityAffinity } from '../../../scheduling/priority-affinity.js';
import { chain, planStep } from '../../support/plans.js';

export const engine = 'engine-1';
export const host = 'host-1';
export const need = { name: 'llama3.2:latest', numCtx: 4096 };
export const key = residencyKey(need);
export const policy = priorityAffinity();

export interface TaskFields {
  readonly plan?: Plan;
  readonly exact?: number;
  readonly after?: readonly string[];
  readonly agent?: string;
  /** its `resource_requirements` */
  readonly requires?: object;
  readonly user?: string;
}

/** Sets up tasks, engines and hosts of one database, and makes moves for them. */
export function createWorld(sql: Sql) {
  const line = createLine(sql);

  async function task({
    plan = chain(planStep('one')),
    exact = 50,
    after = [],
    agent,
    requires,
    user = 'ada',
  }: TaskFields = {}): Promise<RunIdentity & { plan: Plan }> {
    const taskId = randomUUID();
    await sql.begin(async (tx) => {
      await tx`
        insert into tasks (id, name, type, priority, user_id, template, template_hash, plan, agent_assigned, request)
        values (${taskId}, 'a task', 'test', ${exact}, ${user}, 'test', ${plan.templateHash}, ${tx.json(plan as never)}, ${agent ?? null},
          ${tx.json((requires === undefined ? {} : { resource_requirements: requires }) as never)})`;
      for (const parent of after) await tx`insert into task_dependencies (parent_task_id, child_task_id) values (${parent}, ${taskId})`;
    });
    const runId = randomUUID();
    return { taskId, attempt: 1, runId, firstRunId: runId, plan };
  }

  /** A task as it is stored by its creator, whose first step is granted with it where it may run at once. */
  async function submit({ plan = chain(planStep('one')), exact = 50, after = [], agent, requires, user = 'ada' }: TaskFields = {}) {
    const taskId = randomUUID();
    const task: NewTask = {
      id: taskId,
      name: 'a task',
      description: null,
      exact,
      priorityGiven: true,
      userId: user,
      parameters: {},
      plan,
      request: requires === undefined ? {} : { resource_requirements: requires as JsonObject },
      metadata: {},
      agentAssigned: agent ?? null,
      models: [],
      dependsOn: after,
      idempotency: null,
      queueMax: 1_000,
      lineage: null,
    };
    const store = () => insertTask(sql, task, { owner: null, starter: 'creator', first: soleFirstStep(plan) });
    const stored = await store();
    if (stored.outcome !== 'created') throw new Error(`not stored: ${stored.outcome}`);
    const runId = randomUUID();
    return { taskId, attempt: 1, runId, firstRunId: runId, plan, first: stored.first, store };
  }

  const stepOf = (plan: Plan, id?: string): PlanStep => {
    const step = id === undefined ? plan.steps[0] : plan.steps.find((candidate) => candidate.id === id);
    if (!step) throw new Error(`no step ${id}`);
    return step;
  };

  return {
    line,
    task,
    submit,
    stepOf,
    enter: (run: RunIdentity & { plan: Plan }, stepId?: string, stepAttempt = 1): Promise<Entered> =>
      line.enter({ run: identity(run), step: stepOf(run.plan, stepId), stepAttempt }),

    /** Enters, which has to be granted at once. */
    async granted(run: RunIdentity & { plan: Plan }, stepId?: string): Promise<Grant> {
      const entered = await line.enter({ run: identity(run), step: stepOf(run.plan, stepId), stepAttempt: 1 });
      if (entered.state !== 'granted') throw new Error(`expected a grant, got ${JSON.stringify(entered)}`);
      return entered.grant;
    },

    async claimed(run: RunIdentity & { plan: Plan }, stepId?: string) {
      const claim = await line.claim(await this.granted(run, stepId), engine);
      if (!claim) throw new Error('expected a claim');
      return claim;
    },

    /** Runs all steps of a task, then closes it. */
    async complete(run: RunIdentity & { plan: Plan }) {
      for (const step of run.plan.steps) await line.finish(await this.claimed(run, step.id), { text: step.id }, {});
      return line.close(identity(run), { status: 'completed', error: null });
    },

    engine: (slots: number, id = engine) => registerEngine(sql, { id, slots }),

    /** A ready host of one slot a key, serving the keys. */
    async host(options: { id?: string; parallel?: number; serving?: readonly string[]; room?: HostRoom } = {}): Promise<number> {
      const id = options.id ?? host;
      const epoch = await acquireHost(sql, { host: id, address: 'http://127.0.0.1:1', parallel: options.parallel ?? 1 });
      await setHostReady(sql, id, epoch, true, {}, options.room ?? oneModel);
      for (const served of options.serving ?? []) {
        await sql`insert into residency (host, host_epoch, key, model, num_ctx, state, order_id) values (${id}, ${epoch}, ${served}, 'm', 4096, 'serving', ${randomUUID()})`;
      }
      return epoch;
    },

    async row(id: string) {
      const [row] = await sql`select * from line where id = ${id}`;
      if (!row) throw new Error(`no row ${id}`);
      return row;
    },

    async taskRow(id: string) {
      const [row] = await sql`select * from tasks where id = ${id}`;
      if (!row) throw new Error(`no task ${id}`);
      return row;
    },

    events: async (id: string): Promise<string[]> =>
      (await sql<{ kind: string }[]>`select kind from task_events where task_id = ${id} order by id`).map((row) => row.kind),

    async empty() {
      await sql`truncate tasks, hosts, engines, residency, residency_orders, residency_backoff, residency_service, key_costs, models, queue_pauses, outbox, holds, orchestration_decisions, resource_shares, needing_walk cascade`;
    },
  };
}

/** What of a run the line is told. */
export function identity({ taskId, attempt, runId, firstRunId }: RunIdentity): RunIdentity {
  return { taskId, attempt, runId, firstRunId };
}

/** The same task after a reset in the Temporal Web UI: another run of the same chain. */
export function resetRun<T extends RunIdentity>(run: T): T {
  return { ...run, runId: randomUUID() };
}

export function modelStep(id: string, fields: Partial<PlanStep> = {}): PlanStep {
  return planStep(id, { pool: 'model', model: need, ...fields });
}
