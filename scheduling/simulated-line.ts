import type { Needs } from '../contract/holds.js';
import type { ResidencyKey } from '../contract/queues.js';
import type { PoolState } from './holds.js';
import type { LineState, StepState, TaskState } from './line-state.js';
import type { HostState, KeyCost } from './policy.js';
import { expectedLoadMs } from './choose-orders.js';
import { SimulatedPools } from './simulated-pools.js';
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
  /** what it has to be given with its first grant; null: nothing, or it has it */
  needs: Needs['amounts'] | null;
  /** what it gives back when it ends */
  held: Needs['amounts'];
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
  /** steps whose tasks need something, instead of the queues; null: nobody does */
  readonly #pools: SimulatedPools | null;
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
    this.#pools =
      state.pools === null ? null : new SimulatedPools(withoutStuck(state.pools, state.tasks), this.steps, maxWaitsMs, (key) => this.#isServable(key));
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

  /** The first step that waits for a key, and may have what its task needs; -1: for a general slot. */
  firstOf(key: number): SimStep | undefined {
    const first = this.#queues.firsts[key + 1] as number;
    if (this.#pools === null) return this.steps[first];
    return this.steps[this.#pools.firstRank(key) < (this.#queues.firstRanks[key + 1] as number) ? this.#pools.first(key) : first];
  }

  /** Infinity when none waits */
  firstRank(key: number): number {
    const rank = this.#queues.firstRanks[key + 1] as number;
    return this.#pools === null ? rank : Math.min(rank, this.#pools.firstRank(key));
  }

  rankOf(step: SimStep): number {
    return this.#queues.rankAt(step.index, this.nowMs);
  }

  /** How many steps wait for a key, whether their tasks may have what they need or not. */
  waitingFor(key: number): number {
    return (this.#queues.sizes[key + 1] as number) + (this.#pools?.waitingFor(key) ?? 0);
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
    this.#add(step);
    if (step.key < 0) return;
    if (step.continues) this.continuing[step.key]?.add(step);
    const known = this.durations[step.key] as { sum: number; count: number };
    known.sum += step.duration.meanMs;
    known.count += 1;
  }

  #add(step: SimStep): void {
    if (step.task.needs === null || this.#pools === null) this.#queues.add(step.key + 1, step.index, this.nowMs);
    else this.#pools.add(step, step.task.needs, this.nowMs);
  }

  #remove(step: SimStep): void {
    if (step.task.needs === null || this.#pools === null) this.#queues.take(step.index);
    else this.#pools.take(step);
  }

  /** Whether a waiting step does not get what its task needs, though it is free, since it is kept for one before it. */
  isReserved(step: SimStep): boolean {
    const { needs } = step.task;
    return step.phase === 'waiting' && needs !== null && (this.#pools?.isReserved(step, needs, this.nowMs) ?? false);
  }

  /** Begins a decision: what has waited long enough by now is raised. */
  beginDecision(): void {
    this.#queues.advance(this.nowMs);
    this.#pools?.begin(this.nowMs);
  }

  /** Takes a step out of its queue, to start it: its task is given what it needs, for all of its steps. @returns whether it was given something */
  take(step: SimStep): boolean {
    this.#remove(step);
    const supplied = this.#supply(step);
    if (step.continues && step.key >= 0) this.continuing[step.key]?.delete(step);
    return supplied;
  }

  #supply({ task, index }: SimStep): boolean {
    const { needs } = task;
    if (needs === null || this.#pools === null) return false;
    const others = task.steps.filter((each) => each.phase === 'waiting' && each.index !== index);
    for (const each of others) this.#remove(each);
    this.#pools.hold(needs);
    task.held = needs;
    task.needs = null;
    for (const each of others) this.#add(each);
    return true;
  }

  /** What a task that ends has of the pools is free. @returns whether that is anything */
  giveBack({ held }: SimTask): boolean {
    if (this.#pools === null || Object.keys(held).length === 0) return false;
    this.#pools.giveBack(held);
    return true;
  }

  /** Level of a key's first step, as asked for; 0: none waits. */
  levelOf(key: number): number {
    return this.firstOf(key)?.level ?? 0;
  }

  /** The order of the first steps of two keys. */
  compareKeys(a: number, b: number): number {
    const [one, other] = [this.firstRank(a), this.firstRank(b)];
    return one === other ? 0 : one - other; // Infinity minus Infinity is no order
  }

  /** The first keys in the line, as many as are asked for, of those that no host holds or is about to load. */
  missingKeys(count: number, refused: ReadonlySet<number>): number[] {
    const found: number[] = [];
    for (let key = 0; key < this.keys.length; key++) {
      const rank = this.firstRank(key);
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
    for (const key of host.residents.keys()) if (this.firstRank(key) === Infinity) return true;
    return false;
  }

  servedMs(resident: SimResident): number {
    let running = 0;
    for (const step of resident.runs) running += this.nowMs - step.startedMs;
    return resident.servedMs + running / resident.host.state.parallel;
  }

  #addTask(state: TaskState): void {
    const task: SimTask = { state, steps: [], blockers: 0, dependents: [], left: state.steps.length, needs: state.needs ?? null, held: state.held ?? {} };
    if (task.needs !== null) {
      this.giveBack(task); // it gives way: what it has is free as soon as its steps have stopped
      task.held = {};
    }
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

  /** As servableIn of the policy: a live host has it or is about to, or may load it. */
  #isServable(key: number): boolean {
    if (key < 0) return true;
    const text = this.keys[key] as ResidencyKey;
    return this.hosts.some(
      ({ state, residents, order }) =>
        !state.paused &&
        ((residents.has(key) && order?.unload.has(key) !== true) ||
          order?.load === key ||
          !this.state.backingOff.some((each) => each.host === state.host && each.key === text && each.forMs > this.nowMs)),
    );
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

/** Pools without the parts of tasks that a person keeps from going on: who waits for those waits for that person. */
function withoutStuck(pools: readonly PoolState[], tasks: readonly TaskState[]): PoolState[] {
  const isStuck = ({ steps }: TaskState) =>
    steps.some(({ now }) => now.state === 'waiting') && steps.every(({ now }) => now.state === 'later' || (now.state === 'waiting' && now.heldBy !== null));
  const stuck = tasks.filter((task) => task.held !== undefined && isStuck(task));
  return pools.map((pool) => ({ ...pool, total: pool.total - stuck.reduce((sum, { held }) => sum + (held?.[pool.pool] ?? 0), 0) }));
}
