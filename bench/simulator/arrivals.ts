import { existsSync, readFileSync } from 'node:fs';
import path from 'node:path';
import type { SimStep } from './line.js';
import { drawer, exponential, randomOf } from './random.js';
import type { SimModel } from './simulate.js';

/** Recorded arrivals lie beside the repository where somebody has them; the benches generate some where not. */
const recorded = path.join(import.meta.dirname, '..', '..', '..', 'shared', 'data', 'azure-llm-2023');

/** When steps arrive and how long they take. */
export interface Arrival {
  readonly atMs: number;
  readonly serviceMs: number;
}

export interface Arrivals {
  readonly name: string;
  readonly list: readonly Arrival[];
}

/** Popularity of models as in production: the first one has 31 % of the requests, the first five 73 %, the first ten 87 %. */
export function popularity(models: number): number[] {
  return Array.from({ length: models }, (_, rank) => (rank + 4) ** -2.5);
}

/** Models `m1`, `m2`, ... that all load in the same time. */
export function modelsOf(count: number, loadMs: number, bytes: (index: number) => number = () => 1): SimModel[] {
  return Array.from({ length: count }, (_, index) => ({ key: `m${index + 1}:latest~ctx4096`, loadMs, bytes: bytes(index) }));
}

/**
 * Requests of one production hour, `conv` or `code` (Azure LLM inference trace 2023): when they came, and their tokens as durations. Time is stretched so that
 * they ask for `rho` of one machine, durations so that their mean is `meanMs`. Generated arrivals of the same kind where the trace is not there.
 */
export function traceArrivals(name: 'conv' | 'code', count: number, rho: number, meanMs: number): Arrivals {
  const file = path.join(recorded, `${name}.csv`);
  if (!existsSync(file)) return { ...burstArrivals(count, rho, meanMs, 1), name: `generated bursts, in place of the recorded ${name}` };
  const lines = readFileSync(file, 'utf8')
    .trim()
    .split('\n')
    .slice(1, count + 1);
  const rows = lines.map((line) => {
    const [at = '', prompt = '', output = ''] = line.split(',');
    // Reading is some fifty times as fast as writing.
    return { atMs: Date.parse(`${at.trim().slice(0, 23).replace(' ', 'T')}Z`), serviceMs: Number(prompt) / 50 + Number(output) };
  });
  return { name: `recorded ${name}`, list: stretch(rows, rho, meanMs) };
}

export function poissonArrivals(count: number, rho: number, meanMs: number, seed: number): Arrivals {
  const random = randomOf(seed);
  let atMs = 0;
  const list = Array.from({ length: count }, () => ({
    atMs: (atMs += exponential(random, meanMs / rho)),
    serviceMs: Math.max(meanMs / 100, exponential(random, meanMs)),
  }));
  return { name: 'Poisson', list: stretch(list, rho, meanMs) };
}

/** Groups of some twenty at once, with quiet between them. */
export function burstArrivals(count: number, rho: number, meanMs: number, seed: number): Arrivals {
  const random = randomOf(seed);
  let atMs = 0;
  const list: Arrival[] = [];
  while (list.length < count) {
    atMs += exponential(random, (20 * meanMs) / rho);
    for (let left = Math.min(count - list.length, 1 + Math.floor(random() * 39)); left > 0; left -= 1)
      list.push({ atMs: atMs + random() * meanMs, serviceMs: Math.max(meanMs / 100, exponential(random, meanMs)) });
  }
  return { name: 'bursts', list: stretch(list, rho, meanMs) };
}

function stretch(list: readonly Arrival[], rho: number, meanMs: number): Arrival[] {
  const sorted = [...list].sort((a, b) => a.atMs - b.atMs);
  const firstMs = sorted[0]?.atMs ?? 0;
  const spanMs = (sorted.at(-1)?.atMs ?? 0) - firstMs || 1;
  const workMs = sorted.reduce((sum, { serviceMs }) => sum + serviceMs, 0);
  const byService = (meanMs * sorted.length) / workMs;
  const byTime = (meanMs * sorted.length) / rho / spanMs;
  return sorted.map(({ atMs, serviceMs }) => ({ atMs: (atMs - firstMs) * byTime, serviceMs: serviceMs * byService }));
}

export interface Draw {
  readonly seed: number;
  readonly models: readonly SimModel[];
  /** weight of each level from 1; default: all are of level 5 */
  readonly levels?: readonly number[];
  /** chance that a request is for the model of the one before it */
  readonly stay?: number;
  /** every model is asked for as often as any other */
  readonly even?: boolean;
}

/** Models and levels for arrivals. */
export function stepsOf({ list }: Arrivals, { seed, models, levels, stay = 0, even = false }: Draw): SimStep[] {
  const random = randomOf(seed);
  const drawModel = drawer(even ? models.map(() => 1) : popularity(models.length));
  const drawLevel = levels ? drawer(levels) : () => 4;
  let model = drawModel(random);
  return list.map(({ atMs, serviceMs }, index) => {
    if (random() >= stay) model = drawModel(random);
    const level = drawLevel(random) + 1;
    return { place: index + 1, arrivalMs: atMs, key: (models[model] as SimModel).key, level, exact: level * 10, serviceMs };
  });
}
