import { z } from 'zod';
import { RetrySettings } from '../contract/schemas/template.js';
import { key, section } from './key.js';
import { days, decimal, flag, int, list, text, upperWord } from './values.js';

/** Accepted and checked, but no part reads it yet; a start says so. A key that gets its part loses this mark. */
const later = { notInForce: 'told when changed' } as const;
/** The same for what would give a false sense of safety or of order: told whenever it is set. */
const unsafe = { notInForce: 'told when set' } as const;

const share = () => decimal(0, 1);
const count = (preset: number) => int(1, 1_000_000_000).default(preset);
const seconds = (preset: number) => int(1, 31_536_000).default(preset);

const scheduling = section({
  algorithm: key(
    z.enum(['reinforcement_learning', 'priority_affinity']).default('reinforcement_learning'),
    'who orders the line: a learned agent, or `priority_affinity` alone; `priority_affinity` also decides while no agent is trained, or where it fails',
    { ...unsafe, inForceAs: ['priority_affinity'] },
  ),
  rl_config: section({
    learning_rate: key(decimal(0, 1).default(0.001), 'learning rate of the agent', later),
    exploration_rate: key(share().default(0.1), 'share of decisions that it tries out', later),
    batch_size: key(count(32), 'decisions it learns from at a time', later),
    memory_size: key(count(10_000), 'decisions it keeps', later),
    update_frequency: key(count(100), 'decisions between two updates', later),
  }),
  queue_config: section({
    max_queue_size: key(int(1, 1_000_000).default(10_000), 'tasks that may be queued; a further one is refused'),
    priority_levels: key(z.union([z.literal(10), z.literal('10').transform(() => 10)]).default(10), 'priorities of tasks; 10 and no other number'),
    timeout_seconds: key(seconds(3_600), 'running time of one attempt of a step for which nobody names another'),
  }),
});

const optimization = section({
  gnn_config: section({
    node_features: key(count(32), 'features of a node', later),
    edge_features: key(count(16), 'features of an edge', later),
    hidden_layers: key(z.array(int(1, 100_000)).min(1).max(32).default([64, 32, 16]), 'widths of the hidden layers', later),
    dropout_rate: key(share().default(0.2), 'dropout while it learns', later),
  }),
  analysis_config: section({
    bottleneck_threshold: key(share().default(0.8), 'share from which a step counts as bottleneck', later),
    optimization_interval: key(seconds(300), 'seconds between two analyses', later),
    max_parallel_optimizations: key(count(5), 'analyses at the same time', later),
  }),
});

const resourcePrediction = section({
  lstm_config: section({
    input_size: key(count(16), 'inputs', later),
    hidden_size: key(count(64), 'width of the hidden layers', later),
    num_layers: key(int(1, 100).default(2), 'hidden layers', later),
    dropout_rate: key(share().default(0.2), 'dropout while it learns', later),
  }),
  prediction_config: section({
    prediction_horizon: key(seconds(3_600), 'seconds ahead', later),
    retrain_interval: key(seconds(86_400), 'seconds between two trainings', later),
    min_training_samples: key(count(1_000), 'samples without which it is not trained', later),
  }),
});

const performance = section({
  targets: section({
    latency_ms: key(int(1, 3_600_000).default(100), 'milliseconds that are aimed at; alerts of `high_latency_ms` tell it'),
    completion_improvement: key(share().default(0.3), 'share', later),
    resource_reduction: key(share().default(0.2), 'share', later),
    prediction_accuracy: key(share().default(0.85), 'share', later),
  }),
  monitoring: section({
    metrics_collection_interval: key(seconds(60), 'seconds between two collections of `performance_metrics` and `system_state`'),
    alert_thresholds: section({
      high_latency_ms: key(int(1, 3_600_000).default(200), 'milliseconds beyond which the mean latency of scheduling or of the API raises an alert'),
      low_accuracy: key(share().default(0.75), 'share of predictions that held below which an alert is raised'),
      high_error_rate: key(share().default(0.05), 'share of attempts of steps that failed beyond which an alert is raised'),
    }),
  }),
});

/** Sections of the whole contract that are wholly or mostly for parts to come. */
export const laterSections = {
  orchestration: section({
    scheduling,
    retry: key(
      z.preprocess((value) => value ?? {}, RetrySettings),
      `how often steps are attempted where neither step, task nor template says otherwise: ${Object.keys(RetrySettings.shape).join(', ')}`,
    ),
    optimization,
    resource_prediction: resourcePrediction,
    performance,
  }),
  redis: section({
    host: key(text.optional(), 'replaced by `temporal.address`: there is no Redis', unsafe),
    port: key(int(1, 65_535).optional(), 'replaced by `temporal.address`', unsafe),
    password: key(z.string().optional(), 'replaced by `temporal.api_key`', { ...unsafe, secret: true }),
    db: key(int(0, 1_000).optional(), 'replaced by `temporal.namespace`', unsafe),
    max_connections: key(int(1, 100_000).optional(), 'replaced by `temporal.max_connections`', unsafe),
  }),
  cache: section({
    max_entries: key(int(0, 10_000_000).default(1_000), 'entries of the cache of answers', later),
    ttl_seconds: key(int(0, 31_536_000).default(300), 'how long one is used', later),
  }),
  retention: section({
    task_executions: key(days.default(90), 'days that executions are kept; as a number, or as `90 days`, `6 months`, `1 year`', unsafe),
    performance_metrics: key(days.default(365), 'days that samples of the collection, and alerts that have cleared, are kept'),
    orchestration_decisions: key(
      days.default(180),
      'days that decisions are kept, longer only while the task that they are about has not ended; as a number, or as `90 days`, `6 months`, `1 year`',
    ),
    logs: key(days.default(30), 'days that log files and the `logs` of executions are kept', unsafe),
  }),
  security: section({
    api_key: section({
      header: key(
        z
          .string()
          .regex(/^[A-Za-z][A-Za-z0-9-]*$/, 'expected a header name')
          .default('X-API-Key'),
        'header that carries an API key, beside `Authorization: Bearer`',
        { variable: 'API_KEY_HEADER' },
      ),
      length: key(int(32, 32).default(32), 'random bytes of a key; 32 and no other number', { variable: 'API_KEY_LENGTH' }),
    }),
    jwt: section({
      secret: key(z.string().min(32, 'expected at least 32 characters').optional(), 'secret that tokens are signed with', {
        ...unsafe,
        variable: 'JWT_SECRET_KEY',
        secret: true,
      }),
      algorithm: key(z.literal('HS256').default('HS256'), 'HS256 and no other', { ...later, variable: 'JWT_ALGORITHM' }),
      expiration_hours: key(int(1, 8_760).default(24), 'hours that a token is valid', { ...later, variable: 'JWT_EXPIRATION_HOURS' }),
    }),
    rate_limit: section({
      requests_per_minute: key(int(1, 10_000_000).default(1_000), 'requests of one key in a minute', { ...unsafe, variable: 'RATE_LIMIT_REQUESTS_PER_MINUTE' }),
      burst: key(int(1, 10_000_000).default(100), 'requests at once', { ...unsafe, variable: 'RATE_LIMIT_BURST' }),
    }),
    cors: section({
      origins: key(list(z.url()).default([]), 'origins of pages that a browser may let use the API', { ...later, variable: 'CORS_ORIGINS' }),
    }),
    encryption: section({
      algorithm: key(upperWord(['AES-256-GCM']).default('AES-256-GCM'), 'AES-256-GCM and no other', { ...later, variable: 'ENCRYPTION_ALGORITHM' }),
      key: key(text.optional(), 'key for data at rest', { ...unsafe, variable: 'ENCRYPTION_KEY', secret: true }),
      fields: key(list(z.enum(['api_keys', 'credentials', 'personal_data'])).default(['api_keys', 'credentials', 'personal_data']), 'what is encrypted', {
        ...later,
        variable: 'ENCRYPTED_FIELDS',
      }),
    }),
  }),
  telemetry: section({ enabled: key(flag.default(false), 'nothing is sent anywhere, whatever this says', later) }),
};
