import type { ResidencyKey } from '../contract/queues.js';
import type { LineState, StepState, TaskState } from './line-state.js';
import type { HostState, KeyCost } from './policy.js';
import { expectedLoadMs } from './choose-orders.js';
import type { Slices } from './slices.js';
import { type LogNormal, type Spread, spreadOf } from './spread.js';
import { WaitingQueues } from './waiting-queue.js';
import type { MaxWaits } from './waiting-order.js';

/** When a step starts and ends, from now. */
export interface Start {
  /** counts the starts */
  readonly order: number;
  readonly host: string;
  readonly start: Spread;
  readonly finish: Spread;
}

export interface SimTask {
  readonly state: TaskState;
  readonly steps: SimStep[];
  /** tasks it still waits for */
  blockers: number;
  readonly dependents: SimTask[];
  /** steps that have not ended */
  left: number;
}

export interface SimStep {
  readonly index: number;
  readonly task: SimTask;
  readonly state: StepState;
  readonly duration: Spread;
  /** index of its key; -1 for the general pool */
  readonly key: number;
  readonly level: number;
  readonly exact: number;
  readonly place: number;
  enteredMs: number;
  continues: boolean;
  phase: 'later' | 'waiting' | 'running' | 'ended';
  arrival: Spread;
  resident: SimResident | null;
  startedMs: number;
  start: Start | undefined;
}

/** Slots, each free one with the moment since which it is free. */
export interface Slots {
  readonly capacity: number;
  readonly free: Spread[];
  running: number;
}

export interface SimResident extends Slots {
  readonly key: number;
  readonly host: SimHost;
  readonly serving: boolean;
  readonly loadMs: number;
  readonly bytes: number | null;
  /** since when it is loaded */
  readonly loadedMs: number;
  /** of steps that have ended */
  servedMs: number;
  readonly runs: Set<SimStep>;
}

export interface SimHost {
  readonly index: number;
  readonly state: HostState;
  readonly residents: Map<number, SimResident>;
  /** the change under way; `loadedAt` once nothing runs any more on what it unloads */
  order: { readonly unload: ReadonlySet<number>; readonly load: number | null; readonly forMs: number; readonly loadedAt: Spread | null } | null;
}

/** Tasks in a slice of work. */
const sliceTasks = 500;

export const noSpread: Spread = { meanMs: 0, variance: 0 };

/** The line in virtual time: its tasks, queues, hosts and slots. It says what there is; simulate-line.ts lets things happen. */
export class SimulatedLine {
  readonly tasks: SimTask[] = [];
  readonly steps: SimStep[] = [];
  readonly keys: ResidencyKey[] = [];
  readonly generalSlots: Slots;
  readonly hosts: SimHost[];
  /** hosts that are not paused */
  readonly live: readonly HostState[];
  /** running steps of tasks that have more steps */
  readonly goingOn = new Set<SimStep>();
  /** by key: waiting steps whose plan goes on with it */
  readonly continuing: Set<SimStep>[] = [];
  /** by key: expected durations of the steps that have waited for it */
  readonly durations: { sum: number; count: number }[] = [];
  /** keys that a host holds or is about to load, in no order */
  held: number[] = [];
  /** by key: where it is in memory */
  readonly residents: SimResident[][] = [];
  nowMs = 0;

  readonly state: LineState;
  readonly maxWaitsMs: MaxWaits;
  /** the first queue is that of the general pool, then that of each key */
  readonly #queues: WaitingQueues;
  /** by key */
  readonly #isHeld: boolean[] = [];
  readonly #keyIndex = new Map<ResidencyKey, number>();
  readonly #costs = new Map<string, Map<ResidencyKey, KeyCost>>();
  readonly #longestLoadsMs = new Map<ResidencyKey, number>();
  readonly #spreads = new Map<LogNormal, Spread>();

  constructor(state: LineState, maxWaitsMs: MaxWaits) {
    this.state = state;
    this.maxWaitsMs = maxWaitsMs;
    this.#queues = new WaitingQueues(this.steps, maxWaitsMs);
    this.#queues.open();
    this.generalSlots = slotsOf(state.generalSlots);
    this.live = state.hosts.filter(({ paused }) => !paused);
    this.hosts = state.hosts.map((host, index) => ({ index, state: host, residents: new Map(), order: null }));
    for (const cost of state.costs) {
      const ofHost = this.#costs.get(cost.host);
      if (ofHost === undefined) this.#costs.set(cost.host, new Map([[cost.key, cost]]));
      else ofHost.set(cost.key, cost);
      this.#longestLoadsMs.set(cost.key, Math.max(this.longestLoadMs(cost.key), expectedLoadMs(cost)));
    }
    for (const host of this.hosts) this.#addResidency(host);
    this.noteHeld();
  }

  /** Takes the tasks of the state in; to be done first. */
  *addTasks(): Slices<void> {
    for (const [index, task] of this.state.tasks.entries()) {
      this.#addTask(task);
      if (index % sliceTasks === sliceTasks - 1) yield;
    }
  }

  keyOf(key: ResidencyKey): number {
    const known = this.#keyIndex.get(key);
    if (known !== undefined) return known;
    const index = this.keys.length;
    this.keys.push(key);
    this.#keyIndex.set(key, index);
    this.#queues.open();
    this.continuing.push(new Set());
    this.durations.push({ sum: 0, count: 0 });
    this.residents.push([]);
    this.#isHeld.push(false);
    return index;
  }

  /** The first step that waits for a key; -1: for a general slot. */
  firstOf(key: number): SimStep | undefined {
    return this.steps[this.#queues.firsts[key + 1] as number];
  }

  /** Infinity when none waits */
  firstRank(key: number): number {
    return this.#queues.firstRanks[key + 1] as number;
  }

  rankOf(step: SimStep): number {
    return this.#queues.rankAt(step.index, this.nowMs);
  }

  /** How many steps wait for a key. */
  waitingFor(key: number): number {
    return this.#queues.sizes[key + 1] as number;
  }

  costOf(host: string, key: ResidencyKey): KeyCost | undefined {
    return this.#costs.get(host)?.get(key);
  }

  /** Of all hosts; 0: not known. */
  longestLoadMs(key: ResidencyKey): number {
    return this.#longestLoadsMs.get(key) ?? 0;
  }

  residentOn(host: string | null, key: ResidencyKey | null): SimResident | undefined {
    const index = key === null ? undefined : this.#keyIndex.get(key);
    return index === undefined ? undefined : this.hosts.find(({ state }) => state.host === host)?.residents.get(index);
  }

  newResident(host: SimHost, key: number, { serving, servedMs, sinceMs }: { serving: boolean; servedMs: number; sinceMs: number }): SimResident {
    const known = this.costOf(host.state.host, this.keys[key] as ResidencyKey);
    return {
      ...slotsOf(host.state.parallel),
      key,
      host,
      serving,
      loadMs: expectedLoadMs(known),
      bytes: known?.bytes ?? null,
      loadedMs: this.nowMs - sinceMs,
      servedMs,
      runs: new Set(),
    };
  }

  /** To be called whenever a host's residents or its change are different. */
  noteHeld(): void {
    for (const key of this.held) {
      this.#isHeld[key] = false;
      this.residents[key] = [];
    }
    this.held = [];
    for (const host of this.hosts) {
      for (const [key, resident] of host.residents) {
        this.#noteHeld(key);
        (this.residents[key] as SimResident[]).push(resident);
      }
      if (host.order?.load != null) this.#noteHeld(host.order.load);
    }
  }

  #noteHeld(key: number): void {
    if (this.#isHeld[key] === true) return;
    this.#isHeld[key] = true;
    this.held.push(key);
  }

  enter(step: SimStep, arrival: Spread): void {
    step.phase = 'waiting';
    step.arrival = arrival;
    this.#queues.add(step.key + 1, step.index, this.nowMs);
    if (step.key < 0) return;
    if (step.continues) this.continuing[step.key]?.add(step);
    const known = this.durations[step.key] as { sum: number; count: number };
    known.sum += step.duration.meanMs;
    known.count += 1;
  }

  /** Raises what has waited long enough by now. */
  raise(): void {
    this.#queues.advance(this.nowMs);
  }

  /** Takes a step out of its queue. */
  take(step: SimStep): void {
    this.#queues.take(step.index);
    if (step.continues && step.key >= 0) this.continuing[step.key]?.delete(step);
  }

  /** Level of a key's first step, as asked for; 0: none waits. */
  levelOf(key: number): number {
    return this.firstOf(key)?.level ?? 0;
  }

  /** Held keys, in the order of their first steps. */
  heldInOrder(): readonly number[] {
    return this.held.length > 1 ? this.held.sort((a, b) => this.compareKeys(a, b)) : this.held;
  }

  /** The order of the first steps of two keys. */
  compareKeys(a: number, b: number): number {
    const [one, other] = [this.firstRank(a), this.firstRank(b)];
    return one === other ? 0 : one - other; // Infinity minus Infinity is no order
  }

  /** The first keys in the line, as many as are asked for, of those that no host holds or is about to load. */
  missingKeys(count: number, refused: ReadonlySet<number>): number[] {
    const ranks = this.#queues.firstRanks;
    const found: number[] = [];
    for (let key = 0; key < this.keys.length; key++) {
      const rank = ranks[key + 1] as number;
      if (rank === Infinity || (found.length === count && rank >= this.firstRank(found[count - 1] as number))) continue;
      if (this.#isHeld[key] === true || refused.has(key)) continue;
      let at = found.length < count ? found.length : count - 1;
      for (; at > 0 && this.firstRank(found[at - 1] as number) > rank; at--) found[at] = found[at - 1] as number;
      found[at] = key;
    }
    return found;
  }

  firstContinuing(key: number): SimStep | undefined {
    let best: SimStep | undefined;
    let bestRank = Infinity;
    for (const step of this.continuing[key] as Set<SimStep>) {
      const rank = this.rankOf(step);
      if (rank < bestRank) [best, bestRank] = [step, rank];
    }
    return best;
  }

  /** Whether something may be loaded on a host without a loss for anybody. */
  hasSlack(host: SimHost): boolean {
    if (!isFree(host)) return false;
    if (host.residents.size < host.state.modelsMax) return true;
    for (const key of host.residents.keys()) if (this.waitingFor(key) === 0) return true;
    return false;
  }

  servedMs(resident: SimResident): number {
    let running = 0;
    for (const step of resident.runs) running += this.nowMs - step.startedMs;
    return resident.servedMs + running / resident.host.state.parallel;
  }

  #addTask(state: TaskState): void {
    const task: SimTask = { state, steps: [], blockers: 0, dependents: [], left: state.steps.length };
    this.tasks.push(task);
    for (const step of state.steps) {
      const { now } = step;
      const made: SimStep = {
        index: this.steps.length,
        task,
        state: step,
        duration: this.#spreadOf(step.duration),
        key: step.key === null ? -1 : this.keyOf(step.key),
        level: state.level,
        exact: state.exact,
        place: state.place,
        enteredMs: now.state === 'waiting' ? -now.waitedMs : 0,
        continues: now.state === 'waiting' && now.continues,
        phase: 'later',
        arrival: noSpread,
        resident: null,
        startedMs: 0,
        start: undefined,
      };
      task.steps.push(made);
      this.steps.push(made);
    }
  }

  /** Like steps have their duration in common. */
  #spreadOf(duration: LogNormal): Spread {
    const known = this.#spreads.get(duration) ?? spreadOf(duration);
    this.#spreads.set(duration, known);
    return known;
  }

  #addResidency(host: SimHost): void {
    const { state } = host;
    for (const row of this.state.residency) {
      if (row.host !== state.host || row.hostEpoch !== state.hostEpoch) continue;
      const key = this.keyOf(row.key);
      host.residents.set(key, this.newResident(host, key, { serving: row.state === 'serving', servedMs: row.servedMs, sinceMs: row.sinceMs }));
    }
    const order = this.state.openOrders.find((open) => open.host === state.host && open.hostEpoch === state.hostEpoch);
    if (order === undefined) return;
    const load = order.load === null ? null : this.keyOf(order.load.key);
    host.order = { unload: new Set(order.unload.map((key) => this.keyOf(key))), load, forMs: order.forMs, loadedAt: null };
  }
}

/** Whether a host may change what it holds. */
export function isFree({ order, state }: SimHost): boolean {
  return order === null && !state.paused;
}

function slotsOf(capacity: number): Slots {
  return { capacity, free: Array.from({ length: Math.max(0, capacity) }, () => noSpread), running: 0 };
}
