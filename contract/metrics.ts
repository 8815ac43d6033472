/** Labels of a sample; few values each, never ids, paths or texts of users. */
export type MetricLabels = Readonly<Record<string, string>>;

export interface MetricFacts {
  readonly type: 'counter' | 'gauge' | 'histogram';
  readonly help: string;
  /** upper bounds of a histogram, without the last, which is infinite */
  readonly buckets?: readonly number[];
  /** whether there are samples with labels only, so that without one there is none */
  readonly labelled?: true;
}

const milliseconds = [1, 2, 5, 10, 25, 50, 100, 250, 500, 1_000, 5_000] as const;
const seconds = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600, 1_800, 3_600] as const;

/** Everything that /metrics tells, in its order. Names do not change. */
export const metrics = {
  scheduling_latency_ms: {
    type: 'histogram',
    help: 'Time of one scheduling decision that granted or ordered something, in milliseconds.',
    buckets: milliseconds,
  },
  tasks_scheduled_total: { type: 'counter', help: 'Steps that were granted their slot and began.' },
  scheduling_errors_total: { type: 'counter', help: 'Scheduling decisions that failed.' },
  active_tasks: { type: 'gauge', help: 'Tasks that run.' },
  queue_size: { type: 'gauge', help: 'Tasks that are queued.' },
  line_waiting: { type: 'gauge', help: 'Steps that wait in the line.' },
  tasks_in_progress: { type: 'gauge', help: 'Tasks that run.' },
  workflows_in_progress: { type: 'gauge', help: 'Tasks that have a workflow: queued or running, and handed over to Temporal.' },
  tasks_completed_total: { type: 'counter', help: 'Tasks that ended, by their status.', labelled: true },
  errors_total: { type: 'counter', help: 'Attempts of steps that failed, by error code.', labelled: true },
  task_duration_seconds: { type: 'histogram', help: 'Time from the start of a task to its end.', buckets: seconds },
  queue_wait_seconds: { type: 'histogram', help: 'Time from the creation of a task to its first start.', buckets: seconds },
  step_duration_seconds: { type: 'histogram', help: 'Time of one attempt of a step, by type and end.', buckets: seconds, labelled: true },
  inference_seconds: { type: 'histogram', help: 'Time that a step spent on inference, by model.', buckets: seconds, labelled: true },
  tokens_total: { type: 'counter', help: 'Tokens read (kind prompt) and written (kind output), by model.', labelled: true },
  model_loads_total: { type: 'counter', help: 'Orders to load a model that ended, by result.', labelled: true },
  model_load_seconds: {
    type: 'histogram',
    help: 'Time from the order to load a model until it served, with what had to be unloaded and pulled.',
    buckets: seconds,
  },
  model_switches_total: { type: 'counter', help: 'Loads for which another model had to leave.' },
  model_unloads_total: { type: 'counter', help: 'Models that orders have taken out of memory.' },
  prediction_accuracy: { type: 'gauge', help: 'Share of the judged predictions of starts and ends that held, 0 to 1.', labelled: true },
  prediction_latency_ms: { type: 'histogram', help: 'Time of one forecast of the whole line, in milliseconds.', buckets: milliseconds },
  gpu_utilization: { type: 'gauge', help: 'Share of its time that a GPU was busy, 0 to 1, as its machine last told.', labelled: true },
  gpu_memory_used_bytes: { type: 'gauge', help: 'Memory of a GPU in use, by all programs.', labelled: true },
  gpu_memory_total_bytes: { type: 'gauge', help: 'Memory of a GPU.', labelled: true },
  system_cpu_utilization: { type: 'gauge', help: 'Share of the processor time in use, 0 to 1, of the machine that answers.' },
  system_memory_utilization: { type: 'gauge', help: 'Share of the memory in use, 0 to 1, of the machine that answers.' },
  resource_utilization: {
    type: 'gauge',
    help: 'Share in use, 0 to 1, by resource: cpu and memory of the machine that answers, gpu of all machines, general slots of all engines.',
    labelled: true,
  },
  http_requests_total: { type: 'counter', help: 'Requests to the API, by route, method and status.', labelled: true },
  http_request_duration_seconds: { type: 'histogram', help: 'Time until a request was answered, by route and method.', buckets: seconds, labelled: true },
  sse_streams: { type: 'gauge', help: 'Streams of events that this process serves.' },
} as const satisfies Readonly<Record<string, MetricFacts>>;

export type MetricName = keyof typeof metrics;
type NameOf<Type> = { [Name in MetricName]: (typeof metrics)[Name]['type'] extends Type ? Name : never }[MetricName];

/** Takes what a process counts itself; costs no round trip. */
export interface Meter {
  count(name: NameOf<'counter'>, labels?: MetricLabels, by?: number): void;
  observe(name: NameOf<'histogram'>, value: number, labels?: MetricLabels): void;
}

/** One stored series; those of a histogram are named `..._bucket` (label `le`), `..._sum` and `..._count`. */
export interface MetricSeries {
  readonly name: string;
  readonly labels: MetricLabels;
  readonly value: number;
}

/** What each collection keeps of its interval in `performance_metrics`. */
export const collectedMetrics = [
  'queue_size',
  'active_tasks',
  'line_waiting',
  'resource_utilization',
  'prediction_accuracy',
  'tasks_per_minute',
  'tokens_per_second',
  'latency_ms',
  'task_duration_seconds',
  'error_rate',
  'loading_share',
  'model_loads',
  'model_unloads',
  'model_switches',
] as const;
export type CollectedMetric = (typeof collectedMetrics)[number];
