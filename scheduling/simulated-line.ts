import type { ResidencyKey } from '../contract/queues.js';
import type { LineState, StepState, TaskState } from './line-state.js';
import { MinHeap } from './min-heap.js';
import type { HostState, KeyCost } from './policy.js';
import { expectedLoadMs } from './choose-orders.js';
import { type Spread, spreadOf } from './spread.js';
import { WaitingQueue } from './waiting-queue.js';
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

export const noSpread: Spread = { meanMs: 0, variance: 0 };

/** The line in virtual time: its tasks, queues, hosts and slots. It says what there is; simulate-line.ts lets things happen. */
export class SimulatedLine {
  readonly tasks: SimTask[] = [];
  readonly steps: SimStep[] = [];
  readonly keys: ResidencyKey[] = [];
  readonly queues: WaitingQueue[] = [];
  readonly general: WaitingQueue;
  /** rank of each key's first step, as its queue has it */
  readonly #ranks: number[] = [];
  readonly generalSlots: Slots;
  readonly hosts: SimHost[];
  /** running steps of tasks that have more steps */
  readonly goingOn = new Set<SimStep>();
  /** by key: waiting steps whose plan goes on with it */
  readonly continuing: number[] = [];
  /** by key: expected durations of the steps that have waited for it */
  readonly durations: { sum: number; count: number }[] = [];
  /** keys that a host holds or is about to load, in no order */
  held: number[] = [];
  nowMs = 0;

  readonly #keyIndex = new Map<ResidencyKey, number>();
  readonly #costs = new Map<string, KeyCost>();
  readonly #raises = new MinHeap();
  /** by key + 1 */
  readonly #raiseAtMs: number[] = [];
  readonly maxWaitsMs: MaxWaits;

  readonly state: LineState;

  constructor(state: LineState, maxWaitsMs: MaxWaits) {
    this.state = state;
    this.maxWaitsMs = maxWaitsMs;
    this.general = new WaitingQueue(this.steps, maxWaitsMs);
    this.generalSlots = slotsOf(state.generalSlots);
    this.hosts = state.hosts.map((host, index) => ({ index, state: host, residents: new Map(), order: null }));
    for (const cost of state.costs) this.#costs.set(`${cost.host} ${cost.key}`, cost);
    for (const task of state.tasks) this.#addTask(task);
    for (const host of this.hosts) this.#addResidency(host);
    this.noteHeld();
  }

  keyOf(key: ResidencyKey): number {
    const known = this.#keyIndex.get(key);
    if (known !== undefined) return known;
    const index = this.keys.length;
    this.keys.push(key);
    this.#keyIndex.set(key, index);
    this.queues.push(new WaitingQueue(this.steps, this.maxWaitsMs));
    this.continuing.push(0);
    this.#ranks.push(Infinity);
    this.durations.push({ sum: 0, count: 0 });
    return index;
  }

  queueOf(key: number): WaitingQueue {
    return key < 0 ? this.general : (this.queues[key] as WaitingQueue);
  }

  costOf(host: SimHost, key: number): KeyCost | undefined {
    return this.#costs.get(`${host.state.host} ${this.keys[key]}`);
  }

  residentOn(host: string | null, key: ResidencyKey | null): SimResident | undefined {
    const index = key === null ? undefined : this.#keyIndex.get(key);
    return index === undefined ? undefined : this.hosts.find(({ state }) => state.host === host)?.residents.get(index);
  }

  newResident(host: SimHost, key: number, { serving, servedMs, sinceMs }: { serving: boolean; servedMs: number; sinceMs: number }): SimResident {
    return {
      ...slotsOf(host.state.parallel),
      key,
      host,
      serving,
      loadMs: expectedLoadMs(this.costOf(host, key)),
      loadedMs: this.nowMs - sinceMs,
      servedMs,
      runs: new Set(),
    };
  }

  /** To be called whenever a host's residents or its change are different. */
  noteHeld(): void {
    const held = new Set<number>();
    for (const host of this.hosts) {
      for (const key of host.residents.keys()) held.add(key);
      if (host.order?.load != null) held.add(host.order.load);
    }
    this.held = [...held];
  }

  enter(step: SimStep, arrival: Spread): void {
    step.phase = 'waiting';
    step.arrival = arrival;
    const queue = this.queueOf(step.key);
    queue.add(step.index, this.nowMs);
    this.#noteRank(step.key);
    this.#noteRaise(step.key, queue.nextRaiseMs);
    if (step.key < 0) return;
    if (step.continues) this.continuing[step.key] = (this.continuing[step.key] as number) + 1;
    const known = this.durations[step.key] as { sum: number; count: number };
    known.sum += step.duration.meanMs;
    known.count += 1;
  }

  /** Raises what has waited long enough by now. */
  raise(): void {
    while (this.#raises.topRank <= this.nowMs) {
      const atMs = this.#raises.topRank;
      const key = this.#raises.pop();
      if (this.#raiseAtMs[key + 1] !== atMs) continue; // an earlier one was noted since
      this.#raiseAtMs[key + 1] = Infinity;
      const queue = this.queueOf(key);
      queue.advance(this.nowMs);
      this.#noteRank(key);
      this.#noteRaise(key, queue.nextRaiseMs);
    }
  }

  /** Takes a step out of its queue. */
  take(step: SimStep): void {
    this.queueOf(step.key).take(step.index);
    this.#noteRank(step.key);
    if (step.continues && step.key >= 0) this.continuing[step.key] = (this.continuing[step.key] as number) - 1;
  }

  #noteRank(key: number): void {
    if (key >= 0) this.#ranks[key] = (this.queues[key] as WaitingQueue).firstRank;
  }

  #noteRaise(key: number, atMs: number): void {
    if (atMs >= (this.#raiseAtMs[key + 1] ?? Infinity)) return;
    this.#raiseAtMs[key + 1] = atMs;
    this.#raises.push(atMs, key);
  }

  /** Level of a key's first step, as asked for; 0: none waits. */
  levelOf(key: number): number {
    return this.steps[this.queueOf(key).first]?.level ?? 0;
  }

  /** Held keys, in the order of their first steps. */
  heldInOrder(): readonly number[] {
    if (this.held.length > 1) this.held.sort((a, b) => compareRanks(this.queueOf(a).firstRank, this.queueOf(b).firstRank));
    return this.held;
  }

  /** The first keys in the line, of those that no host holds or is about to load. */
  missingKeys(count: number, refused: ReadonlySet<number>): number[] {
    const { queues, held } = this;
    const ranks = this.#ranks;
    if (count === 1) {
      let best = -1;
      let bestRank = Infinity;
      for (let key = 0; key < ranks.length; key++) {
        const rank = ranks[key] as number;
        if (rank < bestRank && !held.includes(key) && !refused.has(key)) {
          best = key;
          bestRank = rank;
        }
      }
      return best < 0 ? [] : [best];
    }
    return queues
      .map((queue, key) => ({ key, rank: queue.firstRank }))
      .filter(({ key, rank }) => rank < Infinity && !held.includes(key) && !refused.has(key))
      .sort((a, b) => a.rank - b.rank)
      .slice(0, count)
      .map(({ key }) => key);
  }

  firstContinuing(key: number): SimStep | undefined {
    if (this.continuing[key] === 0) return undefined;
    const queue = this.queueOf(key);
    let best: SimStep | undefined;
    let bestRank = Infinity;
    for (const index of queue.waiting()) {
      const step = this.steps[index] as SimStep;
      if (!step.continues) continue;
      const rank = queue.rankAt(index, this.nowMs);
      if (rank < bestRank) [best, bestRank] = [step, rank];
    }
    return best;
  }

  servedMs(resident: SimResident): number {
    let running = 0;
    for (const step of resident.runs) running += this.nowMs - step.startedMs;
    return resident.servedMs + running / resident.host.state.parallel;
  }

  /** Where a key serves and has a free slot. */
  openFor(key: number): SimResident[] {
    const open: SimResident[] = [];
    for (const host of this.hosts) {
      const resident = host.residents.get(key);
      if (resident === undefined || !resident.serving || resident.free.length === 0 || host.state.paused || (host.order?.unload.has(key) ?? false)) continue;
      open.push(resident);
    }
    return open;
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
        duration: spreadOf(step.duration),
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

function slotsOf(capacity: number): Slots {
  return { capacity, free: Array.from({ length: Math.max(0, capacity) }, () => noSpread), running: 0 };
}

/** Infinity minus Infinity is no order. */
export function compareRanks(a: number, b: number): number {
  return a === b ? 0 : a - b;
}
