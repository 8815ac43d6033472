import { type LogNormal, tenth } from './spread.js';

/** What durations are learned by. */
export interface StepKind {
  readonly template: string;
  readonly step: string;
  readonly type: string;
  /** name of its model; null: it needs none */
  readonly model: string | null;
}

/** What is known of the durations of like steps: few numbers, brought up to date one duration at a time. */
export interface DurationStats {
  /** durations seen; older ones count less and less beyond {@link memory} */
  readonly samples: number;
  /** of the logarithm of milliseconds */
  readonly logMean: number;
  readonly logVariance: number;
  /** by how much the spread below and above the middle has to be stretched so that 80 of 100 durations lie inside */
  readonly stretchLow: number;
  readonly stretchHigh: number;
}

/** A step of which nothing is known: 8 s, give or take a factor of 3.5. */
const unknown: LogNormal = { mu: Math.log(8_000), variance: 1.5 };
/** Durations after which an old one has lost most of its weight. */
const memory = 200;
/** A narrower group's mean outweighs the wider one's with its second duration, its variance, which takes more of them, with its fifth. */
const meanTrust = 1;
const varianceTrust = 4;
/** A duration further than this from the mean, in deviations, counts as if it were no further: one stuck step spoils nothing. */
const farthest = 4;
/** No step is known better than to 2 %. */
const varianceMin = 0.02 ** 2;
const stretchMin = 0.4;
const stretchMax = 4;

/** The groups that a step belongs to, from the widest to the narrowest. */
export function groupsOf({ template, step, type, model }: StepKind): readonly string[] {
  return [JSON.stringify(['type', type]), JSON.stringify(['model', type, model]), JSON.stringify(['step', template, step, model])];
}

/**
 * What a step is expected to take: each group corrects the wider one by as much as it has seen.
 * @param statsOf what is known of a group; undefined: nothing
 */
export function durationOf(kind: StepKind, statsOf: (group: string) => DurationStats | undefined): LogNormal {
  let { mu, variance } = unknown;
  let samples = 0;
  let stretch = 1;
  for (const group of groupsOf(kind)) {
    const stats = statsOf(group);
    if (stats === undefined) continue;
    samples = stats.samples;
    mu = (samples * stats.logMean + meanTrust * mu) / (samples + meanTrust);
    variance = (samples * stats.logVariance + varianceTrust * variance) / (samples + varianceTrust);
    const own = (stats.stretchLow + stats.stretchHigh) / 2;
    stretch = (samples * own + varianceTrust * stretch) / (samples + varianceTrust);
  }
  // the mean of few durations is not the mean of all
  return { mu, variance: Math.max(varianceMin, variance * stretch * stretch * (1 + 1 / (samples + 1))) };
}

/** Whether anything was learned of steps like this one, be it only of its type. */
export function isLearned(kind: StepKind, statsOf: (group: string) => DurationStats | undefined): boolean {
  return groupsOf(kind).some((group) => statsOf(group) !== undefined);
}

/**
 * Takes a duration into account, in all groups of its step.
 * @returns the groups as they are now
 */
export function learnDuration(kind: StepKind, durationMs: number, statsOf: (group: string) => DurationStats | undefined): Map<string, DurationStats> {
  const log = Math.log(Math.max(1, durationMs));
  const expected = durationOf(kind, statsOf);
  const learned = new Map<string, DurationStats>();
  for (const group of groupsOf(kind)) learned.set(group, withDuration(statsOf(group), expected, log));
  return learned;
}

function withDuration(stats: DurationStats | undefined, expected: LogNormal, log: number): DurationStats {
  if (stats === undefined) return { samples: 1, logMean: log, logVariance: expected.variance, stretchLow: 1, stretchHigh: 1 };
  const samples = Math.min(memory, stats.samples + 1);
  const weight = 1 / samples;
  const bound = farthest * Math.sqrt(Math.max(stats.logVariance, varianceMin));
  const off = stats.samples < 8 ? log - stats.logMean : Math.min(bound, Math.max(-bound, log - stats.logMean));
  // in deviations of what was expected of this duration before it was seen
  const score = (log - expected.mu) / Math.sqrt(expected.variance);
  const rate = Math.max(0.04, 0.3 / Math.sqrt(samples));
  const stretch = (stats.stretchLow + stats.stretchHigh) / 2;
  return {
    samples,
    logMean: stats.logMean + weight * off,
    logVariance: (1 - weight) * (stats.logVariance + weight * off * off),
    stretchLow: tracked(stats.stretchLow, -score > tenth * (stats.stretchLow / stretch), rate),
    stretchHigh: tracked(stats.stretchHigh, score > tenth * (stats.stretchHigh / stretch), rate),
  };
}

/** Moves a bound towards the place that one of ten outcomes lies beyond: far out after one that did, a little in after one that did not. */
export function tracked(stretch: number, beyond: boolean, rate: number, max: number = stretchMax): number {
  return Math.min(max, Math.max(stretchMin, stretch * Math.exp(rate * ((beyond ? 1 : 0) - 0.1))));
}
