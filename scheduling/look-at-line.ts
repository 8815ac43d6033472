import { needOfKey, type ResidencyKey } from '../contract/queues.js';
import { chooseOrders, type RankedHead } from './choose-orders.js';
import type { KeyCost, ResidentRow, SlotSet, Snapshot, Soon } from './policy.js';
import { quantumMs } from './quantum.js';
import { standingOf } from './waiting-order.js';
import { compareRanks, type SimResident, type SimStep, type SimulatedLine } from './simulated-line.js';

/** A step of which nothing is known takes this long, where the policy is told how soon a later one comes; as line_soon in db/migrations. */
const unknownStepMs = 10_000;

/**
 * What is to be loaded, by the functions of the policy. They are shown the first steps of the keys that are held, and those of some missing keys.
 * @param missing the first ones in the line
 */
export function askForOrders(line: SimulatedLine, missing: readonly number[]): ReturnType<typeof chooseOrders> {
  const keys = [...line.held, ...missing].sort((a, b) => compareRanks(line.queueOf(a).firstRank, line.queueOf(b).firstRank));
  const soon = soonOf(line);
  const byKey = new Map<ResidencyKey, RankedHead[]>();
  for (const key of keys) {
    const heads = headsOf(line, key);
    if (heads.length > 0) byKey.set(line.keys[key] as ResidencyKey, heads);
  }
  const snapshot: Snapshot = {
    heads: [...byKey.values()].flat().map(({ head }) => head),
    slots: line.hosts.flatMap((host) => [...host.residents.values()].filter(({ serving }) => serving).map((resident) => slotsOf(line, resident))),
    hosts: line.state.hosts,
    residency: line.hosts.flatMap((host) => [...host.residents.values()].map((resident) => rowOf(line, resident))),
    openOrders: line.hosts.flatMap(({ state: { host, hostEpoch }, order }) =>
      order === null
        ? []
        : [
            {
              id: host,
              host,
              hostEpoch,
              unload: [...order.unload].map((key) => line.keys[key] as ResidencyKey),
              load: order.load === null ? null : loadOf(line.keys[order.load] as ResidencyKey),
            },
          ],
    ),
    continuations: [],
    backingOff: line.state.backingOff.filter(({ forMs }) => forMs > line.nowMs),
    costs: costsOf(line, [...keys, ...soon.map(({ key }) => line.keyOf(key))]),
    backlog: line.hosts.length < 2 ? [] : line.held.flatMap((key) => backlogOf(line, key)),
    soon,
  };
  return chooseOrders(snapshot, byKey);
}

/** What a decision about orders rested on; while nothing of it is different, it would be made again. */
export interface Look {
  /** when what a load has bought is used up */
  readonly untilMs: number;
  readonly missing: readonly number[];
  /** in their order, the missing ones among them */
  readonly keys: readonly (readonly [key: number, level: number, continuing: boolean])[];
  /** it rested on more than that */
  readonly never: boolean;
}

export function lookAt(line: SimulatedLine, missing: readonly number[]): Look {
  let untilMs = Infinity;
  for (const host of line.hosts) {
    for (const resident of host.residents.values()) {
      const level = line.levelOf(resident.key);
      if (level === 0) continue;
      const servedMs = line.servedMs(resident);
      for (const key of missing) {
        const leftMs = quantumMs(resident.loadMs, level, line.levelOf(key)) - servedMs;
        if (leftMs > 0) untilMs = Math.min(untilMs, line.nowMs + leftMs);
      }
    }
  }
  const keys = [...line.held, ...missing].sort((a, b) => compareRanks(line.queueOf(a).firstRank, line.queueOf(b).firstRank));
  return {
    untilMs,
    missing,
    keys: keys.map((key) => [key, line.levelOf(key), (line.continuing[key] as number) > 0]),
    // copies follow the number of steps that wait; which of several models goes, how much each is used
    never: line.hosts.length > 1 || line.hosts.some(({ state }) => state.modelsMax > 1),
  };
}

export function isAsSeen(line: SimulatedLine, look: Look, refused: ReadonlySet<number>): boolean {
  if (look.never || line.nowMs >= look.untilMs) return false;
  let before = -Infinity;
  for (const [key, level, continuing] of look.keys) {
    const rank = line.queueOf(key).firstRank;
    if (rank < before || line.levelOf(key) !== level || (line.continuing[key] as number) > 0 !== continuing) return false;
    before = rank;
  }
  const missing = line.missingKeys(Math.max(1, look.missing.length), refused);
  return missing.length === look.missing.length && missing.every((key, index) => key === look.missing[index]);
}

function headsOf(line: SimulatedLine, key: number): RankedHead[] {
  const queue = line.queueOf(key);
  if (queue.size === 0) return [];
  const first = line.steps[queue.first] as SimStep;
  const going = first.continues ? undefined : line.firstContinuing(key);
  return going === undefined ? [headOf(line, first)] : [headOf(line, first), headOf(line, going)];
}

function headOf(line: SimulatedLine, step: SimStep): RankedHead {
  const { level, exact, place, continues } = step;
  const waitedMs = Math.max(0, line.nowMs - step.enteredMs);
  const head = { row: String(step.index), taskId: step.task.state.id, pool: 'model' as const, key: step.state.key, level, exact, place, waitedMs, continues };
  return { head, standing: standingOf(head, line.maxWaitsMs) };
}

function slotsOf(line: SimulatedLine, { host, key, capacity, running }: SimResident): SlotSet {
  const taken = Array.from({ length: running }, (_, index) => index + 1);
  return { pool: 'model', host: host.state.host, hostEpoch: host.state.hostEpoch, key: line.keys[key] as ResidencyKey, capacity, taken };
}

function rowOf(line: SimulatedLine, resident: SimResident): ResidentRow {
  const { host, key } = resident;
  const text = line.keys[key] as ResidencyKey;
  const leaving = host.order?.unload.has(key) ?? false;
  return {
    host: host.state.host,
    hostEpoch: host.state.hostEpoch,
    key: text,
    model: needOfKey(text) ?? { name: text, numCtx: 0 },
    state: leaving ? 'draining' : resident.serving ? 'serving' : 'loading',
    sinceMs: Math.max(0, line.nowMs - resident.loadedMs),
    servedMs: line.servedMs(resident),
  };
}

function costsOf(line: SimulatedLine, keys: readonly number[]): KeyCost[] {
  return line.hosts.flatMap((host) => keys.map((key) => line.costOf(host, key)).filter((cost) => cost !== undefined));
}

function backlogOf(line: SimulatedLine, key: number) {
  const { sum, count } = line.durations[key] as { sum: number; count: number };
  const waiting = line.queueOf(key).size;
  return waiting === 0 ? [] : [{ key: line.keys[key] as ResidencyKey, waiting, serviceMs: count === 0 ? null : sum / count }];
}

/** As line_soon in db/migrations: later steps of plans that run. Of a key that steps wait for already, those tell more. */
function soonOf(line: SimulatedLine): Soon[] {
  const soon = new Map<number, number>();
  for (const running of line.goingOn) {
    const { steps } = running.task;
    const leftMs = Math.max(0, unknownStepMs - (line.nowMs - running.startedMs));
    const here = steps.indexOf(running);
    for (const [index, step] of steps.entries()) {
      if (index <= here || step.phase !== 'later' || step.key < 0 || line.queueOf(step.key).size > 0) continue;
      const inMs = leftMs + unknownStepMs * Math.max(0, index - 1 - here);
      soon.set(step.key, Math.min(soon.get(step.key) ?? Infinity, inMs));
    }
  }
  return [...soon].map(([key, inMs]) => ({ key: line.keys[key] as ResidencyKey, inMs })).sort((a, b) => a.inMs - b.inMs || (a.key < b.key ? -1 : 1));
}

function loadOf(key: ResidencyKey) {
  const model = needOfKey(key);
  if (!model) throw new Error(`this is no residency key: ${key}`);
  return { key, model };
}
