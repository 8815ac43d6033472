import type { Head } from '../../contract/line.js';
import type { Needs } from '../../contract/holds.js';
import { needOfKey } from '../../contract/queues.js';
import { type HoldsState, nothingHeld, shortageOf, withGivenBack, withTaken } from '../../scheduling/holds.js';
import type { LineState, StepState, TaskState } from '../../scheduling/line-state.js';
import type { HostState, Policy, Snapshot } from '../../scheduling/policy.js';
import { expectedLoadMs } from '../../scheduling/choose-orders.js';

export const oneHost: HostState = { host: 'local', hostEpoch: 1, parallel: 1, modelsMax: 1, roomBytes: null, budgetBytes: null, paused: false };
export const emptyLine: LineState = {
  tasks: [],
  generalSlots: 1,
  hosts: [oneHost],
  residency: [],
  openOrders: [],
  costs: [],
  backingOff: [],
  pools: null,
  paused: false,
};
export const keyOf = (name: string) => `${name}:latest~ctx4096`;

/** A duration that is known exactly. */
export const exactly = (ms: number) => ({ mu: Math.log(ms), variance: 0 });

export function waitingStep(
  step: string,
  key: string | null,
  durationMs: number,
  more: Partial<Extract<StepState['now'], { state: 'waiting' }>> = {},
): StepState {
  return {
    step,
    pool: key === null ? 'general' : 'model',
    key,
    duration: exactly(durationMs),
    now: { state: 'waiting', waitedMs: 0, dueInMs: 0, continues: false, heldBy: null, ...more },
  };
}
export function laterStep(step: string, key: string | null, durationMs: number, needs: readonly string[]): StepState {
  return { step, pool: key === null ? 'general' : 'model', key, duration: exactly(durationMs), now: { state: 'later', needs } };
}
export function runningStep(step: string, key: string | null, durationMs: number, host: string, ranMs = 0): StepState {
  return { step, pool: key === null ? 'general' : 'model', key, duration: exactly(durationMs), now: { state: 'running', host, ranMs } };
}
export function taskState(place: number, steps: readonly StepState[], more: Partial<TaskState> = {}): TaskState {
  return { id: `task ${place}`, level: 5, exact: 50, place, steps, after: [], rights: [], ...more };
}

export interface Started {
  readonly atMs: number;
  readonly task: string;
  readonly step: string;
  readonly host: string;
  readonly pool: string;
}

interface Live {
  readonly task: TaskState;
  readonly step: StepState;
  phase: 'later' | 'waiting' | 'running' | 'ended';
  enteredMs: number;
  continues: boolean;
  endsAtMs: number;
  startedMs: number;
  host: string;
}

/**
 * What happens when the policy itself decides, at each event, on all that waits: nothing is left out of its snapshot and nothing is kept between two decisions.
 * Slow and obvious; for states without rights, backing off and dependencies.
 */
export function replayLine(state: LineState, policy: Policy, untilEvents = 100_000): Started[] {
  const started: Started[] = [];
  const all: Live[] = state.tasks.flatMap((task) =>
    task.steps.map((step): Live => {
      const { now } = step;
      const durationMs = Math.exp(step.duration.mu);
      return {
        task,
        step,
        phase: now.state,
        enteredMs: now.state === 'waiting' ? -now.waitedMs : 0,
        continues: now.state === 'waiting' && now.continues,
        endsAtMs: now.state === 'running' ? Math.max(0, durationMs - now.ranMs) : Infinity,
        startedMs: now.state === 'running' ? -now.ranMs : 0,
        host: now.state === 'running' ? now.host : '',
      };
    }),
  );
  const costOf = (host: string, key: string) => state.costs.find((cost) => cost.host === host && cost.key === key);
  const residents = state.residency.map((row) => ({
    ...row,
    endedServiceMs:
      row.servedMs -
      all.filter((each) => each.phase === 'running' && each.host === row.host && each.step.key === row.key).reduce((sum, each) => sum - each.startedMs, 0) /
        parallelOf(row.host),
  }));
  let orders: { host: string; unload: readonly string[]; load: string; loadedAtMs: number }[] = [];
  let nowMs = 0;

  let holds: HoldsState = { ...nothingHeld, pools: state.pools ?? [] };
  /** tasks that have what they need */
  const supplied = new Set<TaskState>();

  const needsOf = ({ needs }: TaskState): Needs | null => (needs == null ? null : { locks: [], amounts: needs });

  function giveBack(task: TaskState): void {
    holds = withGivenBack(holds, supplied.has(task) ? (task.needs ?? {}) : (task.held ?? {}));
  }

  function parallelOf(host: string): number {
    return state.hosts.find((each) => each.host === host)?.parallel ?? 1;
  }
  const runningOn = (host: string, key: string) => all.filter((each) => each.phase === 'running' && each.host === host && each.step.key === key);

  function snapshot(): Snapshot {
    const waiting = all.filter((each) => each.phase === 'waiting');
    const candidates = waiting.map((each): Head & { readonly needs: Needs | null } => ({
      row: String(all.indexOf(each)),
      taskId: each.task.id,
      pool: each.step.pool,
      key: each.step.key,
      level: each.task.level,
      exact: each.task.exact,
      place: each.task.place,
      waitedMs: nowMs - each.enteredMs,
      continues: each.continues,
      needs: supplied.has(each.task) ? null : needsOf(each.task),
    }));
    const lacking = candidates.filter(({ needs }) => needs !== null && shortageOf(holds, needs) !== null);
    const heads = candidates.filter((head) => !lacking.includes(head));
    const general = all.filter((each) => each.phase === 'running' && each.step.key === null).length;
    const soon = new Map<string, number>();
    for (const running of all.filter((each) => each.phase === 'running')) {
      const steps = all.filter((each) => each.task === running.task);
      const here = steps.indexOf(running);
      for (const [index, each] of steps.entries()) {
        if (index <= here || each.phase !== 'later' || each.step.key === null) continue;
        const inMs = Math.max(0, 10_000 - (nowMs - running.startedMs)) + 10_000 * Math.max(0, index - 1 - here);
        soon.set(each.step.key, Math.min(soon.get(each.step.key) ?? Infinity, inMs));
      }
    }
    const keys = new Set(waiting.flatMap((each) => (each.step.key === null ? [] : [each.step.key])));
    return {
      heads,
      lacking,
      holds,
      slots: [
        {
          pool: 'general',
          host: 'general',
          hostEpoch: 0,
          key: null,
          capacity: state.generalSlots,
          taken: Array.from({ length: general }, (_, index) => index + 1),
        },
        ...residents
          .filter((row) => row.state === 'serving')
          .map((row) => ({
            pool: 'model' as const,
            host: row.host,
            hostEpoch: 1,
            key: row.key,
            capacity: parallelOf(row.host),
            taken: runningOn(row.host, row.key).map((_, index) => index + 1),
          })),
      ],
      hosts: state.hosts,
      residency: residents.map((row) => ({
        ...row,
        sinceMs: row.sinceMs + nowMs,
        servedMs: row.endedServiceMs + runningOn(row.host, row.key).reduce((sum, each) => sum + nowMs - each.startedMs, 0) / parallelOf(row.host),
      })),
      openOrders: orders.map(({ host, unload, load }) => ({ id: host, host, hostEpoch: 1, unload, load: { key: load, model: needOfKey(load) as never } })),
      continuations: [],
      backingOff: [],
      costs: state.costs,
      backlog: [...keys].map((key) => {
        const entered = all.filter((each) => each.step.key === key && each.phase !== 'later' && each.step.now.state !== 'running');
        return {
          key,
          waiting: waiting.filter((each) => each.step.key === key).length,
          serviceMs: entered.reduce((sum, each) => sum + Math.exp(each.step.duration.mu), 0) / entered.length,
        };
      }),
      soon: [...soon].map(([key, inMs]) => ({ key, inMs })).sort((a, b) => a.inMs - b.inMs || (a.key < b.key ? -1 : 1)),
    };
  }

  function goOn(): void {
    for (const order of orders) {
      if (order.loadedAtMs < Infinity || order.unload.some((key) => runningOn(order.host, key).length > 0)) continue;
      for (const key of order.unload) {
        const at = residents.findIndex((row) => row.host === order.host && row.key === key);
        if (at >= 0) residents.splice(at, 1);
      }
      order.loadedAtMs = nowMs + expectedLoadMs(costOf(order.host, order.load));
    }
  }

  function decide(): void {
    for (;;) {
      const { grants, orders: ordered } = policy(snapshot());
      for (const grant of grants) {
        const each = all[Number(grant.row)] as Live;
        if (each.task.needs != null && !supplied.has(each.task)) {
          supplied.add(each.task);
          holds = withTaken(holds, needsOf(each.task) ?? { locks: [], amounts: {} });
        }
        Object.assign(each, { phase: 'running', startedMs: nowMs, endsAtMs: nowMs + Math.exp(each.step.duration.mu), host: grant.host });
        started.push({ atMs: nowMs, task: each.task.id, step: each.step.step, host: grant.host, pool: each.step.pool });
      }
      for (const order of ordered) {
        orders.push({ host: order.host, unload: order.unload, load: order.load?.key as string, loadedAtMs: Infinity });
        for (const row of residents) if (row.host === order.host && order.unload.includes(row.key)) Object.assign(row, { state: 'draining' });
      }
      goOn();
      if (grants.length === 0 && ordered.length === 0) return;
    }
  }

  const isReady = (each: Live) => {
    const { now } = each.step;
    return (
      now.state === 'later' && now.needs.every((id) => all.every((other) => other.task !== each.task || other.step.step !== id || other.phase === 'ended'))
    );
  };
  for (const each of all) if (each.phase === 'later' && isReady(each)) each.phase = 'waiting';
  goOn();
  decide();
  for (let events = 0; events < untilEvents; events++) {
    nowMs = Math.min(...all.filter((each) => each.phase === 'running').map((each) => each.endsAtMs), ...orders.map((order) => order.loadedAtMs));
    if (nowMs === Infinity) return started;
    for (const each of all.filter((one) => one.phase === 'running' && one.endsAtMs === nowMs)) {
      each.phase = 'ended';
      if (all.every(({ task, phase }) => task !== each.task || phase === 'ended')) giveBack(each.task);
      const row = residents.find((one) => one.host === each.host && one.key === each.step.key);
      if (row) row.endedServiceMs += (nowMs - each.startedMs) / parallelOf(each.host);
      const next = all.filter((other) => other.task === each.task && other.phase === 'later' && isReady(other));
      for (const other of next)
        Object.assign(other, {
          phase: 'waiting',
          enteredMs: nowMs,
          continues: next.length === 1 && other.step.key !== null && other.step.key === each.step.key,
        });
    }
    for (const order of orders.filter((one) => one.loadedAtMs === nowMs)) {
      orders = orders.filter((one) => one !== order);
      residents.push({
        host: order.host,
        hostEpoch: 1,
        key: order.load,
        model: needOfKey(order.load) as never,
        state: 'serving',
        sinceMs: -nowMs,
        servedMs: 0,
        endedServiceMs: 0,
      });
    }
    goOn();
    decide();
  }
  throw new Error('the line does not come to an end');
}
