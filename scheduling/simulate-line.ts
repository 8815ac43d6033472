import type { LineState } from './line-state.js';
import { askForOrders, isAsSeen, type Look, lookAt } from './look-at-line.js';
import { MinHeap } from './min-heap.js';
import type { HeldBack } from './policy.js';
import { at, expectedLoadMs, type RankedHead } from './choose-orders.js';
import { isFree, noSpread, type SimHost, type SimResident, type SimStep, type SimTask, SimulatedLine, type Slots, type Start } from './simulated-line.js';
import { allAtOnce, type Slices } from './slices.js';
import { remainderOf, type Spread } from './spread.js';
import type { MaxWaits } from './waiting-order.js';

export interface SimulationSettings {
  /** those of the policy */
  readonly maxWaitsMs: MaxWaits;
  /** from the end of a step to the start of the next one in its slot */
  readonly handoverMs: number;
}

export interface Simulated {
  /** by task and step, as the state has them; undefined: it cannot be told */
  readonly startOf: (task: number, step: number) => Start | undefined;
  /** what the policy says now */
  readonly heldBack: readonly HeldBack[];
  /** whether what the task of a step needs is free, but kept now for one before it */
  readonly isReserved: (task: number, step: number) => boolean;
}

/** Moments, and steps to begin with, in a slice of work. */
const sliceEvents = 50;
const sliceSteps = 500;
/** Relative spread of a load's time. */
const loadDeviation = 0.25;

/**
 * Lets the policy run forward over the line as it is until every step has ended that can. Grants follow the order of the queues; orders are chosen by
 * the functions of the policy, whenever anything is different that they look at.
 */
export function simulateLine(state: LineState, settings: SimulationSettings): Simulated {
  return allAtOnce(simulateInSlices(state, settings));
}

/** As {@link simulateLine}. */
export function* simulateInSlices(state: LineState, settings: SimulationSettings): Slices<Simulated> {
  const line = new SimulatedLine(state, settings.maxWaitsMs);
  yield* line.addTasks();
  const simulation = new Simulation(line, settings);
  yield* simulation.run();
  const stepOf = (task: number, step: number) => line.tasks[task]?.steps[step];
  return {
    startOf: (task, step) => stepOf(task, step)?.start,
    heldBack: simulation.heldBack,
    isReserved: (task, step) => simulation.reserved.has(stepOf(task, step)),
  };
}

/** A step that gets a slot: of the general pool, or where its model is. */
interface Grant {
  readonly step: SimStep;
  readonly resident: SimResident | null;
  readonly rank: number;
}

class Simulation {
  heldBack: readonly HeldBack[] = [];
  reserved: ReadonlySet<SimStep | undefined> = new Set();

  /** by time; the end of a step, its coming, the load of a host, a moment to look again */
  readonly #events = new MinHeap();
  /** variance of what happens now */
  #variance = 0;
  #starts = 0;
  #look: Look | null = null;
  /** models whose time is over, with the step that they have to make room for: they take no more than plans that go on with them, and what goes before it */
  #ending: ReadonlyMap<string, RankedHead> = new Map();
  /** when the grants of a decision began: the rank of that step */
  readonly #endingRanks = new Map<string, number>();
  readonly #refused = new Set<number>();

  readonly line: SimulatedLine;
  readonly settings: SimulationSettings;

  constructor(line: SimulatedLine, settings: SimulationSettings) {
    this.line = line;
    this.settings = settings;
  }

  *run(): Slices<void> {
    const { line } = this;
    const eventsMax = 20 * line.steps.length + 1_000;
    this.#addRunning();
    this.#linkTasks();
    yield;
    yield* this.#begin();
    for (let count = 0; this.#events.size > 0 && count < eventsMax; count++) {
      line.nowMs = this.#events.topRank;
      this.#variance = 0;
      while (this.#events.topRank === line.nowMs) this.#happen(this.#events.pop());
      this.#decide();
      if (count % sliceEvents === sliceEvents - 1) yield;
    }
  }

  #addRunning(): void {
    const { line } = this;
    for (const step of line.steps) {
      const { now, duration } = step.state;
      if (now.state !== 'running') continue;
      step.phase = 'running';
      step.startedMs = -now.ranMs;
      const resident = line.residentOn(now.host, step.state.key);
      const slots = step.key < 0 ? line.generalSlots : resident;
      if (slots !== undefined) {
        slots.running += 1;
        slots.free.pop();
      }
      if (resident !== undefined) {
        step.resident = resident;
        // what it has taken so far is in the row already, and is counted while it runs
        resident.servedMs -= now.ranMs / resident.host.state.parallel;
        resident.runs.add(step);
      }
      const left = remainderOf(duration, now.ranMs);
      step.start = { order: -1, host: now.host, start: noSpread, finish: left };
      if (step.task.steps.length > 1) line.goingOn.add(step);
      this.#events.push(left.meanMs, step.index);
    }
  }

  /** Who waits for whom: tasks for tasks, and for a right those behind in the line for the one before. */
  #linkTasks(): void {
    const { tasks } = this.line;
    const byId = new Map(tasks.map((task) => [task.state.id, task]));
    const wait = (task: SimTask, first: SimTask) => {
      first.dependents.push(task);
      task.blockers += 1;
    };
    const byRight = new Map<string, { readonly task: SimTask; readonly has: boolean }[]>();
    for (const task of tasks) {
      for (const id of task.state.after) {
        const first = byId.get(id);
        if (first !== undefined && first !== task) wait(task, first);
      }
      for (const { name, has } of task.state.rights) {
        const group = byRight.get(name);
        if (group === undefined) byRight.set(name, [{ task, has }]);
        else group.push({ task, has });
      }
    }
    for (const group of byRight.values()) {
      group.sort((a, b) => Number(b.has) - Number(a.has) || compareTasks(a.task, b.task));
      for (const [index, { task }] of group.entries()) {
        const before = group[index - 1];
        if (before !== undefined) wait(task, before.task);
      }
    }
  }

  *#begin(): Slices<void> {
    const { line } = this;
    const count = line.steps.length;
    const steps = [...line.steps].sort((a, b) => a.enteredMs - b.enteredMs);
    for (const [index, step] of steps.entries()) {
      if (index % sliceSteps === sliceSteps - 1) yield;
      const { now } = step.state;
      if (now.state === 'waiting' && now.heldBy === null) {
        if (now.dueInMs !== null && now.dueInMs > 0) this.#events.push(now.dueInMs, count + step.index);
        else if (step.task.blockers === 0) this.#enter(step, noSpread);
      } else if (step.task.blockers === 0 && isReady(step)) this.#enter(step, noSpread);
    }
    for (const { forMs } of line.state.backingOff) this.#events.push(forMs, 2 * count + line.hosts.length);
    for (const host of line.hosts) this.#goOn(host);
    if (line.state.paused) return;
    line.beginDecision();
    this.reserved = new Set(line.steps.filter((step) => line.isReserved(step)));
    if (line.hosts.length > 0) this.heldBack = askForOrders(line, line.missingKeys(Infinity, this.#refused)).heldBack;
    this.#decide();
  }

  #happen(event: number): void {
    const { steps, hosts } = this.line;
    if (event < steps.length) this.#end(steps[event] as SimStep);
    else if (event < 2 * steps.length) this.#due(steps[event - steps.length] as SimStep);
    else if (event < 2 * steps.length + hosts.length) this.#loaded(hosts[event - 2 * steps.length] as SimHost);
    else this.#look = null;
  }

  #end(step: SimStep): void {
    const { line } = this;
    const finish = step.start?.finish ?? noSpread;
    this.#variance = Math.max(this.#variance, finish.variance);
    step.phase = 'ended';
    line.goingOn.delete(step);
    const { resident, task } = step;
    const slots = step.key < 0 ? line.generalSlots : resident;
    if (slots !== null) {
      slots.running -= 1;
      if (slots.free.length + slots.running < slots.capacity) slots.free.push(finish);
    }
    if (resident !== null) {
      resident.servedMs += (line.nowMs - step.startedMs) / resident.host.state.parallel;
      resident.runs.delete(step);
      if (resident.host.order !== null) this.#goOn(resident.host);
    }
    task.left -= 1;
    if (task.left === 0) {
      if (line.giveBack(task)) this.#look = null;
      for (const dependent of task.dependents) this.#unblock(dependent);
      return;
    }
    this.#noteSoon();
    const next = task.steps.filter((each) => each.phase === 'later' && isReady(each));
    for (const each of next) {
      each.continues = each.key >= 0 && each.key === step.key && next.length === 1;
      each.enteredMs = line.nowMs;
      this.#enter(each, finish);
    }
  }

  #enter(step: SimStep, arrival: Spread): void {
    const { line } = this;
    line.enter(step, arrival);
    if (line.hosts.length > 1 && line.hosts.some((host) => line.hasSlack(host))) this.#look = null; // it may be worth one copy of its model more
  }

  #unblock(task: SimTask): void {
    const { line } = this;
    task.blockers -= 1;
    if (task.blockers > 0) return;
    const at = this.#now();
    for (const step of task.steps) {
      const { now } = step.state;
      if (step.phase !== 'later') continue;
      if (now.state === 'waiting' && now.heldBy === null && (now.dueInMs ?? 0) <= line.nowMs) {
        if (now.dueInMs === null) step.enteredMs = line.nowMs; // as line_release in db/migrations
        this.#enter(step, at);
      } else if (isReady(step)) {
        step.enteredMs = line.nowMs;
        this.#enter(step, at);
      }
    }
  }

  #due(step: SimStep): void {
    if (step.phase === 'later' && step.task.blockers === 0) this.#enter(step, this.#now());
  }

  /** Begins the load of a change when nothing runs any more on what is unloaded for it. */
  #goOn(host: SimHost): void {
    const { line } = this;
    const { order } = host;
    if (order === null || order.loadedAt !== null) return;
    for (const key of order.unload) if ((host.residents.get(key)?.running ?? 0) > 0) return;
    for (const key of order.unload) host.residents.delete(key);
    const loadMs = order.load === null ? 0 : Math.max(0, expectedLoadMs(line.costOf(host.state.host, line.keys[order.load] as string)) - order.forMs);
    const meanMs = line.nowMs + loadMs;
    host.order = { ...order, loadedAt: { meanMs, variance: this.#variance + (loadMs * loadDeviation) ** 2 } };
    line.noteHeld();
    this.#look = null;
    this.#events.push(meanMs, 2 * line.steps.length + host.index);
  }

  #loaded(host: SimHost): void {
    const { line } = this;
    const { order } = host;
    host.order = null;
    this.#look = null;
    if (order?.load != null) {
      const at = order.loadedAt ?? this.#now();
      this.#variance = Math.max(this.#variance, at.variance);
      const resident = line.newResident(host, order.load, { serving: true, servedMs: 0, sinceMs: 0 });
      resident.free.fill(at);
      host.residents.set(order.load, resident);
    }
    line.noteHeld();
  }

  #decide(): void {
    if (this.line.state.paused) return;
    for (;;) {
      this.line.beginDecision();
      const ordered = this.#giveOrders();
      if (!this.#giveGrants() && !ordered) return;
    }
  }

  #giveOrders(): boolean {
    const { line } = this;
    let free = 0;
    for (const host of line.hosts) if (isFree(host)) free += 1;
    if (free === 0) {
      this.#ending = new Map();
      return false;
    }
    if (this.#look !== null && isAsSeen(line, this.#look, this.#refused)) return false;
    let decision: ReturnType<typeof askForOrders>;
    let missing: readonly number[];
    // Only the first missing keys matter, as many as there are hosts; more where one of them is passed over.
    for (let count = free; ; count *= 4) {
      missing = line.missingKeys(count, this.#refused);
      decision = askForOrders(line, missing);
      const spoken = new Set([...decision.orders, ...decision.heldBack.filter(({ why }) => why === 'quantum' || why === 'behind')].map(({ host }) => host));
      if (spoken.size >= free || missing.length < count) break;
    }
    this.#ending = decision.ending;
    for (const { key } of decision.refusals) this.#refused.add(line.keyOf(key));
    this.#look = lookAt(line, missing);
    for (const { host: name, unload, load } of decision.orders) {
      const host = line.hosts.find(({ state }) => state.host === name);
      if (host === undefined) continue;
      host.order = { unload: new Set(unload.map((key) => line.keyOf(key))), load: load === null ? null : line.keyOf(load.key), forMs: 0, loadedAt: null };
      this.#look = null;
      this.#goOn(host);
      line.noteHeld();
    }
    return decision.orders.length > 0;
  }

  #giveGrants(): boolean {
    const { line } = this;
    const before = this.#starts;
    this.#endingRanks.clear();
    for (const [place, { head }] of this.#ending) this.#endingRanks.set(place, line.firstRank(line.keyOf(head.key as string)));
    let next = this.#nextGrant(-Infinity);
    while (next !== undefined) {
      this.#start(next.step, next.resident ?? line.generalSlots, next.resident);
      next = this.#nextGrant(next.rank);
    }
    return this.#starts > before;
  }

  /**
   * The first step of all that has a slot: in the order of the line whatever it runs on, since two may need the same of a pool.
   * @param after rank of the grant before; a decision goes through the line once
   */
  #nextGrant(after: number): Grant | undefined {
    const { line } = this;
    let best: Grant | undefined;
    const consider = (step: SimStep, resident: SimResident | null) => {
      const rank = line.rankOf(step);
      if (rank > after && rank < (best?.rank ?? Infinity)) best = { step, resident, rank };
    };
    if (line.generalSlots.free.length > 0) {
      const first = line.firstOf(-1);
      if (first !== undefined) consider(first, null);
    }
    for (const key of line.held) {
      const first = line.firstOf(key);
      if (first === undefined) continue;
      const usual = this.#bestOf(key, first.continues ? null : first);
      const step = usual === undefined ? line.firstContinuing(key) : first;
      const resident = usual ?? (step === undefined ? undefined : this.#bestOf(key, null));
      if (step !== undefined && resident !== undefined) consider(step, resident);
    }
    return best;
  }

  /**
   * Where a key serves and has a free slot: the emptier one, of equals the one whose host is first by name.
   * @param step where it has to make room for another model that is before this step, it takes it no more; null: it goes on with the plan
   */
  #bestOf(key: number, step: SimStep | null): SimResident | undefined {
    let best: SimResident | undefined;
    for (const each of this.line.residents[key] as SimResident[]) {
      const { serving, free, host } = each;
      if (!serving || free.length === 0 || host.state.paused || (host.order?.unload.has(key) ?? false)) continue;
      if (step !== null && !this.#isBefore(step, each)) continue;
      if (best === undefined) best = each;
      else {
        const more = free.length / each.capacity - best.free.length / best.capacity;
        if (more > 0 || (more === 0 && host.state.host < best.host.state.host)) best = each;
      }
    }
    return best;
  }

  #isBefore(step: SimStep, { host, key }: SimResident): boolean {
    const { line } = this;
    if (this.#endingRanks.size === 0) return true;
    const ending = this.#endingRanks.get(at(host.state.host, line.keys[key] ?? null));
    return ending === undefined || line.rankOf(step) < ending;
  }

  #start(step: SimStep, slots: Slots, resident: SimResident | null): void {
    const { line } = this;
    const slot = slots.free.shift() ?? noSpread;
    slots.running += 1;
    if (line.take(step)) this.#look = null;
    // what it has waited for last says how sure its start is
    const { variance } = slot.meanMs >= step.arrival.meanMs ? slot : step.arrival;
    const startMs = line.nowMs + this.settings.handoverMs;
    const endMs = startMs + step.duration.meanMs;
    step.phase = 'running';
    step.startedMs = line.nowMs;
    step.resident = resident;
    resident?.runs.add(step);
    step.start = {
      order: this.#starts++,
      host: resident?.host.state.host ?? 'general',
      start: { meanMs: startMs, variance },
      finish: { meanMs: endMs, variance: variance + step.duration.variance },
    };
    if (step.task.left > 1) {
      line.goingOn.add(step);
      this.#noteSoon();
    }
    this.#events.push(endMs, step.index);
  }

  /** What is going to be needed is another, which may be loaded where there is room beside what is loaded. */
  #noteSoon(): void {
    if (this.line.hosts.some((host) => isFree(host) && host.residents.size < host.state.modelsMax)) this.#look = null;
  }

  #now(): Spread {
    return { meanMs: this.line.nowMs, variance: this.#variance };
  }
}

/** Whether all steps that it needs have ended, and it has not entered the line. */
function isReady(step: SimStep): boolean {
  const { now } = step.state;
  return now.state === 'later' && now.needs.every((id) => step.task.steps.every((each) => each.state.step !== id || each.phase === 'ended'));
}

function compareTasks({ state: a }: SimTask, { state: b }: SimTask): number {
  return b.level - a.level || b.exact - a.exact || a.place - b.place;
}
