import type { ResidencyKey } from '../../contract/queues.js';
import type { Line, WaitingStep } from './line.js';
import type { Loaded, Moves, Scheduler, SimHost, View } from './simulate.js';

/** How others choose, on one host. Each call makes one with a memory of its own. They know arrival only: none of these peers has priorities across models. */
export const peers = {
  /** Every request in the order of its arrival; the model used longest ago goes. */
  fifo: () => fifo,
  /** Ollama's scheduler: requests for loaded models pass by; the first one for another model waits until a model is idle, and everything for others behind it. */
  ollama,
  /** llama-swap: what waits is put behind others of its model, so that a loaded model serves all that waits for it, then the oldest one's model. */
  collation: () => exhaustive(oldestKey),
  longest: () => exhaustive(longestKey),
  gated,
  index: () => index,
  /** Bounded Waste: the model whose steps have waited through the most choices of others, each counted (Räcke, Sohler, Westermann 2002). */
  boundedWaste,
  /** the models in turn */
  roundRobin,
} as const satisfies Record<string, () => Scheduler>;

const nothing: Moves = { grants: [], orders: [] };

function hostOf(view: View): SimHost {
  const [host] = view.hosts;
  if (!host || view.hosts.length > 1) throw new Error('the peers are for one host');
  return host;
}

function fifo(view: View): Moves {
  const host = hostOf(view);
  const grants: { waiting: WaitingStep; host: string }[] = [];
  const used = new Map<ResidencyKey, number>();
  for (const waiting of view.line.oldest()) {
    const { key } = waiting.step;
    const loaded = host.loaded.get(key);
    if (loaded?.state !== 'serving') return { grants, orders: loaded || host.order || grants.length > 0 ? [] : orderFor(view, host, key, isIdle) };
    const taken = loaded.running.size + (used.get(key) ?? 0);
    if (taken >= host.parallel) return { grants, orders: [] };
    used.set(key, (used.get(key) ?? 0) + 1);
    grants.push({ waiting, host: host.host });
  }
  return { grants, orders: [] };
}

function ollama(): Scheduler {
  let marked: ResidencyKey | null = null;
  return (view) => {
    const host = hostOf(view);
    const grants = grantLoaded(view, host, () => Infinity);
    if (grants.length > 0 || host.order) return { grants, orders: [] };
    const first = firstNotLoaded(view, host);
    if (first === null) return nothing;
    const exhausted = (loaded: Loaded) => isIdle(loaded) && view.line.count(loaded.key).waiting === 0;
    if (marked !== null && !host.loaded.has(marked)) marked = null;
    const isVictim = (loaded: Loaded) => exhausted(loaded) && (marked === null || loaded.key === marked);
    const orders = orderFor(view, host, first, isVictim);
    if (orders.length > 0) marked = null;
    // None is idle: the first by name is marked, and no other goes instead.
    else marked ??= [...host.loaded.keys()].sort()[0] ?? null;
    return { grants, orders };
  };
}

function exhaustive(choose: (view: View, host: SimHost) => ResidencyKey | null): Scheduler {
  return (view) => {
    const host = hostOf(view);
    const grants = grantLoaded(view, host, () => Infinity);
    const exhausted = (loaded: Loaded) => isIdle(loaded) && view.line.count(loaded.key).waiting === 0;
    if (grants.length > 0 || host.order || (host.loaded.size >= host.modelsMax && ![...host.loaded.values()].some(exhausted))) return { grants, orders: [] };
    const next = choose(view, host);
    return { grants, orders: next === null ? [] : orderFor(view, host, next, exhausted) };
  };
}

function boundedWaste(): Scheduler {
  const waste = new Map<ResidencyKey, number>();
  return exhaustive((view, host) => {
    let best: ResidencyKey | null = null;
    for (const key of view.line.keys()) {
      if (host.loaded.has(key)) continue;
      waste.set(key, (waste.get(key) ?? 0) + view.line.count(key).waiting);
      if (best === null || (waste.get(key) ?? 0) > (waste.get(best) ?? 0)) best = key;
    }
    if (best !== null) waste.delete(best);
    return best;
  });
}

function roundRobin(): Scheduler {
  let last = '';
  return exhaustive((view, host) => {
    const keys = [...view.line.keys()].filter((key) => !host.loaded.has(key)).sort();
    const next = keys.find((key) => key > last) ?? keys[0] ?? null;
    last = next ?? last;
    return next;
  });
}

/** Serves what waited when the model was loaded, then the oldest one's model. */
function gated(): Scheduler {
  const gates = new Map<ResidencyKey, { loadedMs: number; upTo: number }>();
  return (view) => {
    const host = hostOf(view);
    const first = firstNotLoaded(view, host);
    for (const { key, state, sinceMs } of host.loaded.values()) {
      if (state === 'serving' && (first === null || gates.get(key)?.loadedMs !== sinceMs))
        gates.set(key, { loadedMs: sinceMs, upTo: lastPlace(view.line, key) });
    }
    const grants = grantLoaded(view, host, (key) => gates.get(key)?.upTo ?? 0);
    if (grants.length > 0 || host.order || first === null) return { grants, orders: [] };
    const served = ({ key }: Loaded) => (view.line.oldestOf(key, 1)[0]?.step.place ?? Infinity) > (gates.get(key)?.upTo ?? 0);
    return { grants, orders: orderFor(view, host, first, (loaded) => isIdle(loaded) && served(loaded)) };
  };
}

/** The model with the most steps for its load and work, a loaded one without its load; weights are one. */
function index(view: View): Moves {
  const host = hostOf(view);
  const worth = (key: ResidencyKey) => {
    const { waiting, workMs } = view.line.count(key);
    return waiting / ((host.loaded.has(key) ? 0 : (view.models.get(key)?.loadMs ?? 0)) + workMs);
  };
  let best: ResidencyKey | null = null;
  for (const key of view.line.keys()) if (!host.loaded.has(key) && (best === null || worth(key) > worth(best))) best = key;
  if (best === null || host.order) return { grants: grantLoaded(view, host, () => Infinity), orders: [] };
  const wanted = best;
  const isVictim = (loaded: Loaded) => isIdle(loaded) && (view.line.count(loaded.key).waiting === 0 || worth(loaded.key) < worth(wanted));
  const orders = orderFor(view, host, wanted, isVictim);
  const leaving = new Set(orders.flatMap((order) => order.unload));
  return { grants: grantLoaded(view, host, (key) => (leaving.has(key) ? 0 : Infinity)), orders };
}

function grantLoaded(view: View, host: SimHost, upTo: (key: ResidencyKey) => number): { waiting: WaitingStep; host: string }[] {
  return [...host.loaded.values()]
    .filter(({ state, running }) => state === 'serving' && running.size < host.parallel)
    .flatMap(({ key, running }) => view.line.oldestOf(key, host.parallel - running.size))
    .filter(({ step }) => step.place <= upTo(step.key))
    .map((waiting) => ({ waiting, host: host.host }));
}

function firstNotLoaded(view: View, host: SimHost): ResidencyKey | null {
  for (const { step } of view.line.oldest()) if (!host.loaded.has(step.key)) return step.key;
  return null;
}

function oldestKey(view: View, host: SimHost): ResidencyKey | null {
  return firstNotLoaded(view, host);
}

function longestKey(view: View, host: SimHost): ResidencyKey | null {
  let best: ResidencyKey | null = null;
  for (const key of view.line.keys()) if (!host.loaded.has(key) && (best === null || view.line.count(key).waiting > view.line.count(best).waiting)) best = key;
  return best;
}

function lastPlace(line: Line, key: ResidencyKey): number {
  return line.oldestOf(key, Infinity).at(-1)?.step.place ?? 0;
}

function isIdle({ state, running }: Loaded): boolean {
  return state === 'serving' && running.size === 0;
}

/** Unloads those used longest ago until the key fits; nothing where those that may go are not enough. */
function orderFor(view: View, host: SimHost, key: ResidencyKey, isVictim: (loaded: Loaded) => boolean): Moves['orders'] {
  const bytes = view.models.get(key)?.bytes ?? 0;
  const kept = [...host.loaded.values()];
  const unload: ResidencyKey[] = [];
  const fits = () => kept.length < host.modelsMax && (host.bytes === null || kept.reduce((sum, { model }) => sum + model.bytes, bytes) <= host.bytes);
  for (const victim of kept.filter(isVictim).sort((a, b) => a.lastUsedMs - b.lastUsedMs || (a.key < b.key ? -1 : 1))) {
    if (fits()) break;
    kept.splice(kept.indexOf(victim), 1);
    unload.push(victim.key);
  }
  return fits() ? [{ host: host.host, unload, load: key }] : [];
}
