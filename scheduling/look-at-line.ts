import { needOfKey, type ResidencyKey } from '../contract/queues.js';
import type { Resident } from './choose-change.js';
import { chooseOrdersBy, type Facts, type Orders, type RankedHead } from './choose-orders.js';
import type { HostState, Soon } from './policy.js';
import { quantumMs } from './quantum.js';
import type { SimResident, SimStep, SimulatedLine } from './simulated-line.js';
import { standingOf } from './waiting-order.js';

/** A step of which nothing is known takes this long, where the policy is told how soon a later one comes; as line_soon in db/migrations. */
const unknownStepMs = 10_000;

/**
 * What is to be loaded, by the functions of the policy. They are shown the first steps of the keys that are held, and those of some missing keys.
 * @param missing the first ones in the line
 */
export function askForOrders(line: SimulatedLine, missing: readonly number[]): Orders {
  const byKey = new Map<ResidencyKey, RankedHead[]>();
  const turns = new Map<ResidencyKey, number>();
  for (const key of [...line.held, ...missing].sort((a, b) => line.compareKeys(a, b))) {
    const first = line.firstOf(key);
    if (first === undefined) break; // none waits for those behind it either
    turns.set(first.state.key as ResidencyKey, turns.size);
    byKey.set(first.state.key as ResidencyKey, [headOf(line, first)]);
  }
  const soon = soonOf(line);
  const holders = holdersOf(line);
  const made = new Map<HostState, readonly Resident[]>();
  const facts: Facts = {
    byKey,
    turns,
    live: line.live,
    openOrders: line.hosts.flatMap(({ state: { host }, order }) => (order === null ? [] : [{ host, load: loadOf(line, order.load) }])),
    revisable: [], // left out, so that urgent work is told up to one load late for the moment until its order is changed
    holders: (key) => holders.get(key),
    costOf: (host, key) => line.costOf(host, key),
    longestLoadMs: (key) => line.longestLoadMs(key),
    isBackingOff: (host, key) => line.state.backingOff.some((each) => each.host === host && each.key === key && each.forMs > line.nowMs),
    isFetching: (host, key) =>
      line.state.backingOff.some((each) => each.fetching === true && each.host === host && each.key === key && each.forMs > line.nowMs),
    residents: (host) => {
      const known = made.get(host) ?? residentsOf(line, host, turns, soon);
      made.set(host, known);
      return known;
    },
    isKept: (key) => line.residents[line.keyOf(key)]?.some((each) => !isLeaving(each)) ?? false,
    backlog: (key) => (line.hosts.length < 2 ? undefined : backlogOf(line, key)),
    slotsOf: (key) => line.residents[line.keyOf(key)]?.reduce((sum, each) => sum + (each.serving && !isLeaving(each) ? each.capacity : 0), 0) ?? 0,
    soon,
  };
  return chooseOrdersBy(facts);
}

/** What a decision about orders rested on; while nothing of it is different, it would be made again. */
export interface Look {
  /** when what a load has bought is used up */
  readonly untilMs: number;
  readonly missing: readonly number[];
  /** in their order, the missing ones among them */
  readonly keys: readonly number[];
  /** of each of them: the level of its first step, brought up to date where that changes nothing, and whether plans go on with it */
  readonly levels: number[];
  readonly continuing: readonly boolean[];
  /** {@link quantaOf} */
  readonly quanta: readonly number[];
  /** it rested on more than that */
  readonly never: boolean;
}

/**
 * A decision that gave no orders holds until the order of the models that are held or missing is another, or one of them has nothing left that its load has
 * bought. Whoever lets a step come, a load begin or a host change has to ask anew, where there are several hosts.
 */
export function lookAt(line: SimulatedLine, missing: readonly number[]): Look {
  const quanta = quantaOf(line, missing);
  let untilMs = Infinity;
  let at = 0;
  for (const host of line.hosts) {
    for (const resident of host.residents.values()) {
      if (line.firstRank(resident.key) === Infinity) continue;
      const servedMs = line.servedMs(resident);
      for (const _ of missing) {
        const leftMs = (quanta[at] as number) - servedMs;
        if (leftMs > 0) untilMs = Math.min(untilMs, line.nowMs + leftMs);
        at += 2;
      }
    }
  }
  const keys = [...line.held, ...missing].sort((a, b) => line.compareKeys(a, b));
  return {
    untilMs,
    missing,
    keys,
    levels: keys.map((key) => line.levelOf(key)),
    continuing: keys.map((key) => goesOn(line, key)),
    quanta,
    // Which of several hosts is kept free for what is missing follows the time that their models have left, and it says where something else may be loaded.
    // What only a paused host holds, or one that is about to unload it, is as good as missing.
    never: line.hosts.length > 1 && ((missing.length > 0 && line.hosts.some((host) => line.hasSlack(host))) || line.held.some((key) => isGoing(line, key))),
  };
}

/** What levels decide, of each model in memory that steps wait for, against each missing one: its quantum, and whether the other is urgent and it is not. */
function quantaOf(line: SimulatedLine, missing: readonly number[]): number[] {
  const quanta: number[] = [];
  for (const host of line.hosts) {
    for (const { key, loadMs } of host.residents.values()) {
      const own = line.levelOf(key);
      if (own === 0) continue;
      for (const wanted of missing) {
        const other = line.levelOf(wanted);
        quanta.push(quantumMs(loadMs, own, other), other >= 9 && own < 9 ? 1 : 0);
      }
    }
  }
  return quanta;
}

export function isAsSeen(line: SimulatedLine, look: Look, refused: ReadonlySet<number>): boolean {
  if (look.never || line.nowMs >= look.untilMs) return false;
  let before = -Infinity;
  let alike = true;
  for (const [index, key] of look.keys.entries()) {
    const rank = line.firstRank(key);
    if (rank < before || goesOn(line, key) !== look.continuing[index]) return false;
    before = rank;
    const level = line.levelOf(key);
    if (level === look.levels[index]) continue;
    if (level === 0 || look.levels[index] === 0) return false;
    look.levels[index] = level;
    alike = false;
  }
  const missing = line.missingKeys(Math.max(1, look.missing.length), refused);
  if (missing.length !== look.missing.length || missing.some((key, index) => key !== look.missing[index])) return false;
  if (alike) return true;
  const quanta = quantaOf(line, missing);
  return quanta.every((value, index) => value === look.quanta[index]);
}

function goesOn(line: SimulatedLine, key: number): boolean {
  return (line.continuing[key]?.size ?? 0) > 0;
}

function headOf(line: SimulatedLine, step: SimStep): RankedHead {
  const { level, exact, place, continues } = step;
  const waitedMs = Math.max(0, line.nowMs - step.enteredMs);
  const head = { row: String(step.index), taskId: step.task.state.id, pool: 'model' as const, key: step.state.key, level, exact, place, waitedMs, continues };
  return { head, standing: standingOf(head, line.maxWaitsMs) };
}

/** Live hosts that hold a key or are about to, by key. */
function holdersOf(line: SimulatedLine): Map<ResidencyKey, Set<string>> {
  const holders = new Map<ResidencyKey, Set<string>>();
  const hold = (key: number, host: string) => {
    const text = line.keys[key] as ResidencyKey;
    const known = holders.get(text);
    if (known === undefined) holders.set(text, new Set([host]));
    else known.add(host);
  };
  for (const { state, residents, order } of line.hosts) {
    if (!state.paused) for (const resident of residents.values()) if (!isLeaving(resident)) hold(resident.key, state.host);
    if (order?.load != null) hold(order.load, state.host);
  }
  return holders;
}

function residentsOf(line: SimulatedLine, host: HostState, turns: Facts['turns'], soon: readonly Soon[]): Resident[] {
  const found = line.hosts.find(({ state }) => state === host);
  return [...(found?.residents.values() ?? [])].map((resident) => {
    const key = line.keys[resident.key] as ResidencyKey;
    const servedMs = line.servedMs(resident);
    return {
      key,
      loadMs: resident.loadMs,
      bytes: resident.bytes,
      servedMs,
      busy: resident.serving && resident.running > 0,
      use: Math.min(1, servedMs / Math.max(1, line.nowMs - resident.loadedMs)),
      level: line.firstOf(resident.key)?.level ?? null,
      turn: turns.get(key) ?? turns.size,
      soonMs: soon.find((need) => need.key === key)?.inMs ?? null,
      planGoesOn: goesOn(line, resident.key),
    };
  });
}

function isLeaving({ host, key }: SimResident): boolean {
  return host.order?.unload.has(key) ?? false;
}

/** Whether steps wait for a key that no host holds for them or is about to, although it is in memory still. */
function isGoing(line: SimulatedLine, key: number): boolean {
  if (line.firstRank(key) === Infinity || line.hosts.some(({ order }) => order?.load === key)) return false;
  return line.residents[key]?.every((each) => each.host.state.paused || isLeaving(each)) ?? false;
}

function backlogOf(line: SimulatedLine, text: ResidencyKey) {
  const key = line.keyOf(text);
  const waiting = line.waitingFor(key);
  const { sum, count } = line.durations[key] as { sum: number; count: number };
  return waiting === 0 ? undefined : { key: text, waiting, serviceMs: count === 0 ? null : sum / count };
}

/** As line_soon in db/migrations: later steps of plans that run, the sooner first. Of a key that steps wait for already, those tell more. */
function soonOf(line: SimulatedLine): Soon[] {
  if (line.goingOn.size === 0) return [];
  const soon = new Map<number, number>();
  for (const running of line.goingOn) {
    const { steps } = running.task;
    const leftMs = Math.max(0, unknownStepMs - (line.nowMs - running.startedMs));
    const here = steps.indexOf(running);
    for (let index = here + 1; index < steps.length; index++) {
      const step = steps[index] as SimStep;
      if (step.phase !== 'later' || step.key < 0 || line.firstRank(step.key) < Infinity) continue;
      const inMs = leftMs + unknownStepMs * (index - 1 - here);
      soon.set(step.key, Math.min(soon.get(step.key) ?? Infinity, inMs));
    }
  }
  return [...soon].map(([key, inMs]) => ({ key: line.keys[key] as ResidencyKey, inMs })).sort((a, b) => a.inMs - b.inMs || (a.key < b.key ? -1 : 1));
}

function loadOf(line: SimulatedLine, index: number | null) {
  if (index === null) return null;
  const key = line.keys[index] as ResidencyKey;
  const model = needOfKey(key);
  if (!model) throw new Error(`this is no residency key: ${key}`);
  return { key, model };
}
