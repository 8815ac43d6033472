import type { CollectedMetric, MetricSeries } from '../contract/metrics.js';
import type { AlertFinding } from '../db/alerts.js';
import type { MetricsNow } from '../db/metrics.js';
import type { SeenSince, SystemState } from '../db/observations.js';

/** From when on an alert fires. */
export interface AlertSettings {
  /** milliseconds that are aimed at, told beside what is measured */
  readonly targetLatencyMs: number;
  readonly highLatencyMs: number;
  /** share, 0 to 1 */
  readonly lowAccuracy: number;
  /** share, 0 to 1 */
  readonly highErrorRate: number;
  /** further rules, by name */
  readonly rules: Readonly<Record<string, AlertRule>>;
}

/** A collected metric that is out of bounds; one of them is set. */
export interface AlertRule {
  readonly metric: CollectedMetric;
  readonly above?: number | undefined;
  readonly below?: number | undefined;
}

/** A sample as it is collected; a share says of how many it is one. */
export interface CollectedSample extends MetricSeries {
  readonly of?: number;
}

/** Fewer judged predictions than this say nothing of their accuracy, nor fewer attempts of the share that failed. */
const judgedMin = 20;
const attemptsMin = 5;
/** A share of few may be out of bounds by chance alone; an alert fires when this many standard deviations away from it are so too (one-sided, 95 %). */
const deviations = 1.645;

/** Counters that a collection compares with those of the one before: the sum over all labels. */
const counted = [
  'tasks_completed_total',
  'errors_total',
  'step_duration_seconds_count',
  'tokens_total',
  'scheduling_latency_ms_sum',
  'scheduling_latency_ms_count',
  'http_request_duration_seconds_sum',
  'http_request_duration_seconds_count',
  'task_duration_seconds_sum',
  'task_duration_seconds_count',
  'model_loads_total',
  'model_unloads_total',
  'model_switches_total',
] as const;

/** Where the counters stand, and how the whole is. */
export function stateOf(now: MetricsNow, seen: SeenSince): SystemState {
  const sums = Object.fromEntries(
    counted.map((name) => [name, now.series.filter((series) => series.name === name).reduce((sum, { value }) => sum + value, 0)]),
  );
  const { queued, running, waiting } = now;
  return { counters: sums, queued, running, waiting, engines: seen.engines, hosts: seen.hosts, hostsReady: seen.hostsReady };
}

/**
 * What is collected of one interval: gauges as they are, and rates, means and shares since the collection before. What did not happen has no sample.
 * @param before null: the first collection, or the one before is too long ago; rates are left out
 * @param seconds since then
 */
export function samplesOf(before: SystemState | null, state: SystemState, now: MetricsNow, seen: SeenSince, seconds: number): CollectedSample[] {
  const samples: CollectedSample[] = [];
  const add = (name: CollectedMetric, value: number | null, labels: Readonly<Record<string, string>> = {}) => {
    if (value !== null && Number.isFinite(value)) samples.push({ name, labels, value });
  };
  const addShare = (name: CollectedMetric, part: number, of: number, least: number) => {
    if (of >= least) samples.push({ name, labels: {}, value: Math.min(1, part / of), of });
  };
  add('queue_size', now.queued);
  add('active_tasks', now.running);
  add('line_waiting', now.waiting);
  add('resource_utilization', seen.cpu, { resource: 'cpu' });
  add('resource_utilization', seen.memory, { resource: 'memory' });
  add('resource_utilization', seen.gpu, { resource: 'gpu' });
  add('resource_utilization', seen.gpuMemory, { resource: 'gpu_memory' });
  if (now.slots > 0) add('resource_utilization', Math.min(1, now.slotsTaken / now.slots), { resource: 'general_slots' });
  addShare('prediction_accuracy', seen.kept, seen.judged, judgedMin);
  if (before === null || seconds <= 0) return samples;

  // Counters begin anew when a state is imported; an interval in which they fall says nothing.
  const since = (name: (typeof counted)[number]) => Math.max(0, (state.counters[name] ?? 0) - (before.counters[name] ?? 0));
  const mean = (sum: (typeof counted)[number], count: (typeof counted)[number], scale = 1) => (since(count) > 0 ? (since(sum) / since(count)) * scale : null);
  add('tasks_per_minute', (since('tasks_completed_total') * 60) / seconds);
  add('tokens_per_second', since('tokens_total') / seconds);
  add('latency_ms', mean('scheduling_latency_ms_sum', 'scheduling_latency_ms_count'), { of: 'scheduling' });
  add('latency_ms', mean('http_request_duration_seconds_sum', 'http_request_duration_seconds_count', 1_000), { of: 'api' });
  add('task_duration_seconds', mean('task_duration_seconds_sum', 'task_duration_seconds_count'));
  addShare('error_rate', since('errors_total'), since('step_duration_seconds_count'), attemptsMin);
  if (seen.hosts > 0) add('loading_share', Math.min(1, seen.loadingSeconds / (seconds * seen.hosts)));
  add('model_loads', since('model_loads_total'));
  add('model_unloads', since('model_unloads_total'));
  add('model_switches', since('model_switches_total'));
  return samples;
}

/**
 * The least and the greatest share of which a measured one may be a sample: the score interval.
 * @param share measured, 0 to 1
 * @param of how many it was measured of, from 1
 * @see E. B. Wilson, Probable Inference, the Law of Succession, and Statistical Inference, JASA 22 (1927)
 */
export function shareBetween(share: number, of: number): readonly [least: number, greatest: number] {
  const square = deviations ** 2 / of;
  const middle = (share + square / 2) / (1 + square);
  const half = Math.sqrt((share * (1 - share) + square / 4) * square) / (1 + square);
  return [middle - half, middle + half];
}

function outOfBounds({ value, of }: CollectedSample, { above, below }: AlertRule): boolean {
  const [least, greatest] = of === undefined ? [value, value] : shareBetween(value, of);
  return (above !== undefined && least > above) || (below !== undefined && greatest < below);
}

/** Which rules hold for what was collected. A metric without a sample fires nothing. */
export function findingsOf(samples: readonly CollectedSample[], settings: AlertSettings): AlertFinding[] {
  const { targetLatencyMs, highLatencyMs, lowAccuracy, highErrorRate, rules } = settings;
  const builtIn: readonly (readonly [rule: string, AlertRule, message: (value: number, subject: string) => string])[] = [
    [
      'high_latency_ms',
      { metric: 'latency_ms', above: highLatencyMs },
      (value, subject) =>
        `The mean latency of ${subject} was ${Math.round(value)} ms; ${targetLatencyMs} ms is aimed at, more than ${highLatencyMs} ms is too much.`,
    ],
    [
      'low_accuracy',
      { metric: 'prediction_accuracy', below: lowAccuracy },
      (value) =>
        `Of the tasks that ended lately ${percent(value)} did so within the time that was predicted for them; ${percent(lowAccuracy)} should. Predictions adapt by themselves as more tasks end.`,
    ],
    [
      'high_error_rate',
      { metric: 'error_rate', above: highErrorRate },
      (value) => `${percent(value)} of the attempts of steps failed; more than ${percent(highErrorRate)} is too much.`,
    ],
  ];
  const configured = Object.entries(rules).map(
    ([name, rule]) =>
      [
        name,
        rule,
        (value: number, subject: string) => `${rule.metric}${subject === '' ? '' : ` of ${subject}`} is ${round(value)}, ${boundWords(rule)}.`,
      ] as const,
  );
  return [...builtIn, ...configured].flatMap(([rule, { metric, ...bounds }, message]) =>
    samples
      .filter((sample) => sample.name === metric && outOfBounds(sample, { metric, ...bounds }))
      .map(({ value, labels }) => {
        const subject = Object.values(labels).join(' ');
        return { rule, subject, message: message(value, subject), value, threshold: bounds.above ?? bounds.below ?? 0 };
      }),
  );
}

const percent = (share: number) => `${Math.round(share * 100)} %`;
const round = (value: number) => Math.round(value * 1_000) / 1_000;
const boundWords = ({ above, below }: AlertRule) => (above !== undefined ? `above ${above}` : `below ${below}`);
