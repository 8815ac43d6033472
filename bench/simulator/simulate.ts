import type { ResidencyKey } from '../../contract/queues.js';
import { Line, type SimStep, type WaitingStep } from './line.js';

export interface SimModel {
  readonly key: ResidencyKey;
  readonly loadMs: number;
  readonly bytes: number;
}

export interface SimHostSettings {
  readonly host: string;
  /** concurrent inferences of one loaded model */
  readonly parallel: number;
  readonly modelsMax: number;
  /** null: not limited by bytes */
  readonly bytes: number | null;
  /** inferences that run at full speed at the same time; more than these share it equally */
  readonly compute: number;
}

export interface World {
  readonly models: readonly SimModel[];
  readonly hosts: readonly SimHostSettings[];
}

interface Running {
  readonly waiting: WaitingStep;
  readonly startedMs: number;
  leftMs: number;
}

/** A model in a simulated host's memory. */
export interface Loaded {
  readonly key: ResidencyKey;
  readonly model: SimModel;
  state: 'loading' | 'serving' | 'draining';
  sinceMs: number;
  /** service since the load: the sum over its slots divided by their number, counted when a step ends */
  servedMs: number;
  lastUsedMs: number;
  /** slot, from 1, to what runs in it */
  readonly running: Map<number, Running>;
}

export interface SimHost extends SimHostSettings {
  readonly loaded: Map<ResidencyKey, Loaded>;
  order: { readonly unload: readonly ResidencyKey[]; readonly load: ResidencyKey; readyMs: number | null } | null;
}

/** A plan that has ended a step and goes on with the same key, whose next step has not entered yet. */
export interface GoingOn {
  readonly key: ResidencyKey;
  readonly host: string;
  readonly endedMs: number;
  readonly level: number;
}

/** What a scheduler sees; it looks and never writes. */
export interface View {
  readonly nowMs: number;
  readonly line: Line;
  readonly hosts: readonly SimHost[];
  readonly models: ReadonlyMap<ResidencyKey, SimModel>;
  readonly goingOn: readonly GoingOn[];
  /** keys of steps that have not entered yet and whose plans run, with the time until they may */
  readonly soon: readonly { readonly key: ResidencyKey; readonly inMs: number }[];
}

export interface Moves {
  /** slot: any free one when it is left out */
  readonly grants: readonly { readonly waiting: WaitingStep; readonly host: string; readonly slot?: number }[];
  readonly orders: readonly { readonly host: string; readonly unload: readonly ResidencyKey[]; readonly load: ResidencyKey }[];
}

export type Scheduler = (view: View) => Moves;

export interface Done {
  readonly step: SimStep;
  readonly enteredMs: number;
  readonly startedMs: number;
  readonly endedMs: number;
}

export interface Outcome {
  /** in the order of their starts */
  readonly done: readonly Done[];
  readonly loads: number;
  /** time in which a host ran nothing because its models were exchanged, in all */
  readonly lostMs: number;
  /** time in which a host ran something, in all */
  readonly busyMs: number;
  /** time of the loads themselves, those beside running models included */
  readonly loadingMs: number;
  readonly endMs: number;
  /** decisions made, and how long they took in real time */
  readonly decisions: number;
}

/** What the watcher of a run may look at after each decision. */
export type Watch = (view: View, moves: Moves) => void;

export interface SimOptions {
  /** steps come one by one in their order, each when fewer than this many wait, whatever their `arrivalMs`: a line of constant length */
  readonly window?: number;
  readonly watch?: Watch;
}

/** A time far enough above rounding. */
const tinyMs = 1e-6;

/**
 * Runs a load through hosts under a scheduler, event by event; the same input always gives the same outcome.
 * Throws where a scheduler gives a slot twice, grants to what is not loaded, fills a host beyond its limits, or leaves work waiting for good.
 */
export function simulate(world: World, arrivals: readonly SimStep[], scheduler: Scheduler, { window, watch }: SimOptions = {}): Outcome {
  const run = new Run(world, arrivals, window ?? null);
  while (run.advance()) {
    for (let again = true; again; ) {
      const view = run.view();
      const moves = scheduler(view);
      watch?.(view, moves);
      again = run.apply(moves);
    }
  }
  return run.outcome();
}

class Run {
  readonly #line = new Line();
  readonly #hosts: SimHost[];
  readonly #models: Map<ResidencyKey, SimModel>;
  readonly #arrivals: readonly SimStep[];
  readonly #done: Done[] = [];
  #later: { atMs: number; waiting: WaitingStep }[] = [];
  #goingOn: GoingOn[] = [];
  readonly #window: number | null;
  #next = 0;
  #nowMs = 0;
  #left: number;
  #idleTicks = 0;
  #counts = { loads: 0, lostMs: 0, busyMs: 0, loadingMs: 0, decisions: 0 };

  constructor(world: World, arrivals: readonly SimStep[], window: number | null) {
    this.#window = window;
    this.#hosts = world.hosts.map((host) => ({ ...host, loaded: new Map(), order: null }));
    this.#models = new Map(world.models.map((model) => [model.key, model]));
    this.#arrivals = window === null ? [...arrivals].sort((a, b) => a.arrivalMs - b.arrivalMs || a.place - b.place) : arrivals;
    this.#left = arrivals.reduce((sum, step) => sum + chainLength(step), 0);
  }

  /** Goes to the next event and lets it happen; false when everything is done. */
  advance(): boolean {
    if (this.#left === 0) return false;
    const atMs = this.#nextMs();
    if (atMs === Infinity) {
      // Nothing is under way: what waits may still become grantable by time alone, as in the engine, which looks once a second.
      if (++this.#idleTicks > 10_000) throw new Error(`${this.#line.waiting} steps wait for good at ${this.#nowMs} ms`);
      this.#pass(this.#nowMs + 1_000);
      return true;
    }
    this.#idleTicks = 0;
    this.#pass(atMs);
    for (const host of this.#hosts) this.#settle(host);
    for (let step = this.#arrivals[this.#next]; step !== undefined && this.#comes(step); step = this.#arrivals[++this.#next])
      this.#line.enter({ step, enteredMs: this.#nowMs, continues: false, started: false });
    for (const { waiting } of this.#later.filter((each) => each.atMs <= this.#nowMs)) this.#line.enter(waiting);
    this.#later = this.#later.filter((each) => each.atMs > this.#nowMs);
    return true;
  }

  view(): View {
    this.#counts.decisions += 1;
    return {
      nowMs: this.#nowMs,
      line: this.#line,
      hosts: this.#hosts,
      models: this.#models,
      goingOn: this.#goingOn,
      soon: this.#soon(),
    };
  }

  /** Carries out what was decided; true when something has changed that calls for another decision at once. */
  apply({ grants, orders }: Moves): boolean {
    for (const { waiting, host: name, slot } of grants) {
      const host = this.#host(name);
      const loaded = host.loaded.get(waiting.step.key);
      if (loaded?.state !== 'serving') throw new Error(`${waiting.step.key} was granted on ${name}, which does not serve it`);
      const free = slot ?? Array.from({ length: host.parallel }, (_, index) => index + 1).find((each) => !loaded.running.has(each));
      if (free === undefined || free < 1 || free > host.parallel || loaded.running.has(free))
        throw new Error(`slot ${free} of ${waiting.step.key} was given twice`);
      this.#line.start(waiting);
      this.#goingOn = this.#goingOn.filter((plan) => plan.key !== waiting.step.key);
      loaded.running.set(free, { waiting, startedMs: this.#nowMs, leftMs: waiting.step.serviceMs });
      loaded.lastUsedMs = this.#nowMs;
    }
    for (const { host: name, unload, load } of orders) {
      const host = this.#host(name);
      if (host.order) throw new Error(`two orders at a time on ${name}`);
      if (host.loaded.has(load)) throw new Error(`${load} was ordered on ${name}, which holds it`);
      for (const key of unload) this.#loaded(host, key).state = 'draining';
      host.order = { unload, load, readyMs: null };
      this.#settle(host);
    }
    return orders.some(({ host }) => this.#host(host).order === null);
  }

  outcome(): Outcome {
    return { done: this.#done, ...this.#counts, endMs: this.#nowMs };
  }

  #comes(step: SimStep): boolean {
    return this.#window === null ? step.arrivalMs <= this.#nowMs : this.#line.waiting < this.#window;
  }

  #nextMs(): number {
    const next = this.#arrivals[this.#next];
    let atMs = next === undefined ? Infinity : this.#window === null ? next.arrivalMs : this.#comes(next) && this.#line.waiting === 0 ? this.#nowMs : Infinity;
    for (const { atMs: enters } of this.#later) atMs = Math.min(atMs, enters);
    for (const host of this.#hosts) {
      if (host.order?.readyMs !== null && host.order !== null) atMs = Math.min(atMs, host.order.readyMs);
      const speed = speedOf(host);
      for (const { running } of host.loaded.values()) for (const { leftMs } of running.values()) atMs = Math.min(atMs, this.#nowMs + leftMs / speed);
    }
    return atMs;
  }

  #pass(toMs: number): void {
    const passedMs = toMs - this.#nowMs;
    for (const host of this.#hosts) {
      const speed = speedOf(host);
      const runs = runningOn(host) > 0;
      if (runs) this.#counts.busyMs += passedMs;
      else if (host.order) this.#counts.lostMs += passedMs;
      if (host.order?.readyMs !== null && host.order !== null) this.#counts.loadingMs += passedMs;
      for (const { running } of host.loaded.values()) for (const each of running.values()) each.leftMs -= passedMs * speed;
    }
    this.#nowMs = toMs;
  }

  /** Ends what has ended on a host: steps, drains, loads. */
  #settle(host: SimHost): void {
    for (const loaded of host.loaded.values()) {
      for (const [slot, running] of loaded.running) if (running.leftMs <= tinyMs) this.#end(host, loaded, slot, running);
    }
    const { order } = host;
    if (!order) return;
    if (order.readyMs === null && order.unload.every((key) => this.#loaded(host, key).running.size === 0)) {
      for (const key of order.unload) host.loaded.delete(key);
      const model = this.#models.get(order.load);
      if (!model) throw new Error(`no model ${order.load}`);
      host.loaded.set(order.load, { key: order.load, model, state: 'loading', sinceMs: this.#nowMs, servedMs: 0, lastUsedMs: this.#nowMs, running: new Map() });
      const bytes = [...host.loaded.values()].reduce((sum, each) => sum + each.model.bytes, 0);
      if (host.loaded.size > host.modelsMax || (host.bytes !== null && bytes > host.bytes)) throw new Error(`${host.host} holds more than it can`);
      order.readyMs = this.#nowMs + model.loadMs;
      this.#counts.loads += 1;
    }
    if (order.readyMs !== null && order.readyMs <= this.#nowMs + tinyMs) {
      const loaded = this.#loaded(host, order.load);
      loaded.state = 'serving';
      loaded.sinceMs = this.#nowMs;
      loaded.lastUsedMs = this.#nowMs;
      host.order = null;
    }
  }

  #end(host: SimHost, loaded: Loaded, slot: number, { waiting, startedMs }: Running): void {
    loaded.running.delete(slot);
    loaded.servedMs += (this.#nowMs - startedMs) / host.parallel;
    loaded.lastUsedMs = this.#nowMs;
    this.#done.push({ step: waiting.step, enteredMs: waiting.enteredMs, startedMs, endedMs: this.#nowMs });
    this.#left -= 1;
    const { then, key, level } = waiting.step;
    if (!then) return;
    const atMs = this.#nowMs + then.arrivalMs;
    const continues = then.key === key;
    this.#later.push({ atMs, waiting: { step: then, enteredMs: atMs, continues, started: false } });
    if (continues) this.#goingOn.push({ key, host: host.host, endedMs: this.#nowMs, level });
  }

  #soon() {
    const soon = this.#later.map(({ atMs, waiting }) => ({ key: waiting.step.key, inMs: atMs - this.#nowMs }));
    for (const host of this.#hosts) {
      for (const { running } of host.loaded.values()) {
        for (const { waiting, leftMs } of running.values()) {
          const { then } = waiting.step;
          if (then) soon.push({ key: then.key, inMs: leftMs / speedOf(host) + then.arrivalMs });
        }
      }
    }
    return soon;
  }

  #host(name: string): SimHost {
    const host = this.#hosts.find((each) => each.host === name);
    if (!host) throw new Error(`no host ${name}`);
    return host;
  }

  #loaded(host: SimHost, key: ResidencyKey): Loaded {
    const loaded = host.loaded.get(key);
    if (!loaded) throw new Error(`${host.host} does not hold ${key}`);
    return loaded;
  }
}

function chainLength(step: SimStep): number {
  let length = 1;
  for (let next = step.then; next !== undefined; next = next.then) length += 1;
  return length;
}

function runningOn(host: SimHost): number {
  let count = 0;
  for (const { running } of host.loaded.values()) count += running.size;
  return count;
}

/** Share of its full speed at which each step on a host runs. */
function speedOf(host: SimHost): number {
  return Math.min(1, host.compute / Math.max(1, runningOn(host)));
}
