import type { Head } from '../../contract/line.js';
import { needOfKey } from '../../contract/queues.js';
import type { Policy, Snapshot } from '../../scheduling/policy.js';
import { defaultMaxWaitsMs, type MaxWaits, standingOf } from '../../scheduling/waiting-order.js';
import type { WaitingStep } from './line.js';
import type { Scheduler, View } from './simulate.js';

/** Levels that there are. */
const levels = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10] as const;

/** The product's own policy as a scheduler: it sees a snapshot such as the engine reads, and nothing else. Throws where it refuses a model. */
export function productScheduler(policy: Policy, maxWaitsMs: MaxWaits = defaultMaxWaitsMs): Scheduler {
  return (view) => {
    const { snapshot, rows } = snapshotOf(view, maxWaitsMs);
    const { grants, orders, refusals } = policy(snapshot);
    if (refusals.length > 0) throw new Error(refusals[0]?.reason);
    return {
      grants: grants.map(({ row, host, slot }) => ({ waiting: rows.get(row) as WaitingStep, host, slot })),
      orders: orders.flatMap(({ host, unload, load }) => (load ? [{ host, unload, load: load.key }] : [])),
    };
  };
}

export function snapshotOf(view: View, maxWaitsMs: MaxWaits): { snapshot: Snapshot; rows: Map<string, WaitingStep> } {
  const rows = new Map<string, WaitingStep>();
  const heads: Head[] = [];
  const backlog: Snapshot['backlog'][number][] = [];
  for (const key of view.line.keys()) {
    const { waiting, workMs } = view.line.count(key);
    backlog.push({ key, waiting, serviceMs: workMs / waiting });
    for (const each of headsOf(view, key, maxWaitsMs)) {
      const row = String(each.step.place);
      rows.set(row, each);
      heads.push(headOf(each, row, view.nowMs));
    }
  }
  const loaded = view.hosts.flatMap((host) => [...host.loaded.values()].map((each) => ({ host, each })));
  return {
    rows,
    snapshot: {
      heads,
      backlog,
      slots: loaded.map(({ host, each }) => ({
        pool: 'model',
        host: host.host,
        hostEpoch: 1,
        key: each.key,
        capacity: host.parallel,
        taken: [...each.running.keys()],
      })),
      hosts: view.hosts.map(({ host, parallel, modelsMax, bytes }) => ({
        host,
        hostEpoch: 1,
        parallel,
        modelsMax,
        roomBytes: bytes,
        budgetBytes: bytes,
        paused: false,
      })),
      residency: loaded.map(({ host, each }) => ({
        host: host.host,
        hostEpoch: 1,
        key: each.key,
        model: needOf(each.key),
        state: each.state,
        sinceMs: view.nowMs - each.sinceMs,
        servedMs: each.servedMs,
      })),
      openOrders: view.hosts.flatMap(({ host, order }) =>
        order ? [{ id: host, host, hostEpoch: 1, unload: order.unload, load: { key: order.load, model: needOf(order.load) } }] : [],
      ),
      continuations: view.goingOn.map(({ key, host, endedMs, level }) => ({ key, host, agoMs: view.nowMs - endedMs, level })),
      backingOff: [],
      costs: view.hosts.flatMap(({ host }) => [...view.models.values()].map(({ key, loadMs, bytes }) => ({ host, key, loadMs, bytes }))),
      soon: view.soon,
    },
  };
}

/** As the engine reads them: of a served key as many of each level as it has free slots, at least one; of another one the first, and the one raised most. */
function headsOf(view: View, key: string, maxWaitsMs: MaxWaits): WaitingStep[] {
  let [served, free] = [false, 0];
  for (const host of view.hosts) {
    const loaded = host.loaded.get(key);
    if (loaded) served = true;
    if (loaded?.state === 'serving') free += host.parallel - loaded.running.size;
  }
  const heads = levels.map((level) => view.line.heads(key, level, Math.max(1, free), view.nowMs - (maxWaitsMs[level - 1] ?? Infinity)));
  if (served) return heads.flat();
  const first = heads.findLast((each) => each.length > 0)?.[0];
  let most: { waiting: WaitingStep; level: number } | null = null;
  for (const waiting of heads.flat()) {
    const { level, raised } = standingOf({ level: waiting.step.level, waitedMs: view.nowMs - waiting.enteredMs }, maxWaitsMs);
    if (raised && (most === null || level > most.level || (level === most.level && waiting.step.place < most.waiting.step.place))) most = { waiting, level };
  }
  return [first, most?.waiting].filter((waiting, index, all) => waiting !== undefined && all.indexOf(waiting) === index) as WaitingStep[];
}

function headOf({ step, enteredMs, continues }: WaitingStep, row: string, nowMs: number): Head {
  const { key, level, exact, place } = step;
  return { row, taskId: row, pool: 'model', key, level, exact, place, waitedMs: nowMs - enteredMs, continues };
}

function needOf(key: string) {
  const need = needOfKey(key);
  if (!need) throw new Error(`no key: ${key}`);
  return need;
}
