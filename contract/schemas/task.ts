import { z } from 'zod';
import { amountMax, lockForm, locksMax, machinePools, poolForm, poolsMax } from '../holds.js';
import { defaultLevel, levelMax } from '../priority.js';
import { statusDetails, taskStatuses } from '../status.js';
import { JsonObjectSchema } from './json-value.js';
import { RetrySettings } from './template.js';

const exampleId = '8f14e45f-ceea-467f-a0e6-7c1f9d2b3a44';

/** Dependencies that one task may name. */
export const dependenciesMax = 1000;

/** A time as every answer writes it: ISO 8601, UTC, ending in `Z`. */
export const Timestamp = z.iso.datetime().meta({ description: 'ISO 8601, UTC', example: '2026-01-09T10:30:00.000Z' });

export const TaskIdSchema = z.uuid().meta({ description: 'Identity of a task; its Temporal workflow is `task-<id>`', example: exampleId });

export const Level = z.int().min(1).max(levelMax).meta({ description: '1 to 10; 10 is most urgent', example: defaultLevel });

export const ResourceUsage = z
  .object({
    model_name: z.string(),
    inference_time_seconds: z.number(),
    memory_used_gb: z.number().nullable(),
  })
  .meta({
    id: 'ResourceUsage',
    description: 'What the inferences of the task used',
    example: { model_name: 'llama3.1:8b', inference_time_seconds: 45.2, memory_used_gb: 8.1 },
  });
export type ResourceUsageView = z.output<typeof ResourceUsage>;

export const TaskModel = z
  .object({
    name: z.string(),
    alias: z.string().nullable().meta({ description: 'The configured short name that was asked for' }),
    digest: z.string().nullable().meta({ description: 'The digest that the model is pinned to' }),
  })
  .meta({ id: 'TaskModel', description: 'A model that a task needs', example: { name: 'llama3.1:8b', alias: 'fast', digest: null } });
export type TaskModelView = z.output<typeof TaskModel>;

export const TaskError = z
  .object({
    code: z.string(),
    message: z.string(),
    step: z.string().nullable().meta({ description: 'Id of the step that failed; null when no step did' }),
    attempt: z.int().min(1),
    details: z.unknown().optional(),
  })
  .meta({ id: 'TaskError', description: 'Why a task failed', example: { code: 'step_failed', message: 'exit code 2', step: 'run_tests', attempt: 3 } });

export const Task = z
  .object({
    id: TaskIdSchema,
    status: z.enum(taskStatuses),
    priority: Level,
    created_at: Timestamp,
    started_at: Timestamp.nullable(),
    completed_at: Timestamp.nullable(),
    template: z.string(),
    parameters: JsonObjectSchema,
    result: JsonObjectSchema.nullable().meta({
      type: ['object', 'null'],
      description: 'Output of the last step, and under `steps` the outputs by step id; null unless completed',
    }),
    resource_usage: ResourceUsage.nullable().meta({ description: 'Null until the first inference ends' }),
    name: z.string(),
    type: z.string(),
    depends_on: z.array(TaskIdSchema),
    blocked_by: z.array(TaskIdSchema).meta({ description: 'Those of `depends_on` that are not completed' }),
    status_detail: z
      .enum(statusDetails)
      .nullable()
      .meta({ description: 'Why a task that has not ended stands where it stands; `held` also while steps of it that began before still run' }),
    attempt: z.int().min(1).meta({ description: 'Grows when a person retries the task' }),
    error: TaskError.nullable(),
    estimated_start_time: Timestamp.nullable().meta({
      description:
        'When a queued task is expected to start, by the last forecast; null when none can be told, and in answers to a creation or a change, which the next forecast follows within seconds',
    }),
    estimated_completion_time: Timestamp.nullable().meta({
      description: 'When its last step is expected to end, by the last forecast; null as the one before',
    }),
    queue_position: z.int().min(1).nullable().meta({ description: 'Place among the queued tasks, 1 is next; null when not queued' }),
    user_id: z.string(),
    metadata: JsonObjectSchema,
    models: z.array(TaskModel).meta({ description: 'What its steps need, in the order of their first use' }),
    template_hash: z.string().meta({ description: 'SHA-256 of the template’s text when the task was submitted' }),
    replayed_from: TaskIdSchema.nullable().meta({ description: 'The task whose input this one repeats' }),
    origin_id: TaskIdSchema.nullable().meta({ description: 'The first task of the chain of replays' }),
  })
  .meta({
    id: 'Task',
    description: 'A task and all that is known of it',
    example: {
      id: exampleId,
      status: 'completed',
      priority: 5,
      created_at: '2026-01-09T10:30:00.000Z',
      started_at: '2026-01-09T10:32:00.000Z',
      completed_at: '2026-01-09T10:45:00.000Z',
      template: 'ollama-inference',
      parameters: { model: 'llama3.1:8b', prompt: 'Summarise the notes' },
      result: { text: '...', steps: { ollama_generate: { text: '...' } } },
      resource_usage: { model_name: 'llama3.1:8b', inference_time_seconds: 45.2, memory_used_gb: 8.1 },
      name: 'ollama-inference',
      type: 'ollama-inference',
      depends_on: [],
      blocked_by: [],
      status_detail: null,
      attempt: 1,
      error: null,
      estimated_start_time: null,
      estimated_completion_time: null,
      queue_position: null,
      user_id: 'admin',
      metadata: {},
      models: [{ name: 'llama3.1:8b', alias: null, digest: null }],
      template_hash: '6f1ed002ab5595859014ebf0951522d9a3f1c1b1d0a1d2e5b5f6f3e7a8c9d0e1',
      replayed_from: null,
      origin_id: null,
    },
  });
export type TaskView = z.output<typeof Task>;

// Letters of any script, but nothing that hides, reorders or breaks a line where the name is shown.
const printable = /^[^\p{Cc}\p{Cs}\u061c\u200b\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff]*$/u;
const visibleText = (charsMax: number) =>
  z
    .string()
    .min(1)
    .max(charsMax)
    .refine((text) => printable.test(text), { error: 'contains control or invisible characters' });

export const RetryRequest = RetrySettings.meta({
  id: 'RetryRequest',
  description: 'How often steps of this task are attempted; what is left out comes from the template',
  example: { max_attempts: 5, initial_interval_seconds: 2 },
});

export const LimitsRequest = z
  .strictObject({
    memory_gb: z.number().positive().max(65_536),
    disk_gb: z.number().positive().max(1_048_576),
    timeout_seconds: z.number().positive().max(2_592_000),
    output_bytes: z.int().positive().max(1_073_741_824),
  })
  .partial()
  .meta({ id: 'LimitsRequest', description: 'What a step of this task may use; passing one fails the task', example: { memory_gb: 2, timeout_seconds: 600 } });

export const LockName = z
  .string()
  .regex(lockForm, 'expected letters, digits, ".", "_" and "-", at most 100, the first a letter or a digit')
  .meta({ description: 'Name of a lock', example: 'deploy-staging' });

const fieldOfPool = { cpu: 'cpu_cores', memory: 'memory_gb', disk: 'disk_gb', gpu: 'gpu_count' } as const;

export const ResourceRequirements = z
  .strictObject({
    cpu_cores: z.number().min(0.1).max(1024).meta({ description: 'Of the pool `cpu`' }),
    memory_gb: z.number().min(0.1).max(65_536).meta({ description: 'Of the pool `memory`, in GiB' }),
    disk_gb: z.number().min(0).max(1_048_576).meta({ description: 'Of the pool `disk`, in GiB' }),
    gpu_count: z.int().min(0).max(1024).meta({ description: 'Of the pool `gpu`' }),
    locks: z
      .array(LockName)
      .max(locksMax)
      .refine((names) => new Set(names).size === names.length, { error: 'names a lock twice' })
      .meta({ description: 'Names of locks; one task at a time has each' }),
    resources: z
      .record(
        z.string().regex(poolForm, 'expected the name of a pool: lower-case letters, digits, "_" and "-", at most 50'),
        z.number().positive().max(amountMax),
      )
      .refine((amounts) => Object.keys(amounts).length <= poolsMax, { error: `names more than ${poolsMax} pools` })
      .meta({ description: 'Amount by pool, for the pools of the configuration' }),
  })
  .partial()
  .refine(({ resources = {}, ...fields }) => machinePools.every((pool) => resources[pool] === undefined || fields[fieldOfPool[pool]] === undefined), {
    error: 'names a pool in `resources` for which there is a field as well',
    path: ['resources'],
  })
  .meta({
    id: 'ResourceRequirements',
    description: 'What the task has to have, all of it, before its first step starts; it keeps it until it ends',
    example: { cpu_cores: 1, memory_gb: 8.5, locks: ['deploy-staging'], resources: { licences: 1 } },
  });

export const CreateTask = z
  .strictObject({
    template: z.string().min(1).max(100).meta({ description: 'Name of a template' }),
    parameters: JsonObjectSchema.default({}),
    depends_on: z.array(z.string().max(100)).max(dependenciesMax).default([]).meta({ description: 'Ids of tasks that have to complete first' }),
    priority: Level.optional().meta({
      description:
        '1 to 10; 10 is most urgent. A learned agent may choose it for a task that is sent without, and moves one that is sent with it only within that level',
      default: defaultLevel,
    }),
    name: visibleText(255).optional().meta({ description: 'Default: the template' }),
    description: z.string().max(10_000).optional(),
    metadata: JsonObjectSchema.default({}).meta({ description: 'Kept and given back as it is' }),
    retry: RetryRequest.optional(),
    limits: LimitsRequest.optional(),
    resource_requirements: ResourceRequirements.optional(),
    agent_assigned: visibleText(100).optional().meta({
      description:
        'Tasks of one agent run one at a time. Agents are shared by everybody: a task also waits for those of other users that name the same agent, so put your own name into it where that is not meant.',
      example: 'ann/writer',
    }),
  })
  .meta({
    id: 'CreateTask',
    description: 'A task to run',
    example: { template: 'ollama-inference', parameters: { model: 'llama3.1:8b', prompt: 'Summarise the notes' }, depends_on: [], priority: 5 },
  });
/** A create request as the service takes it: defaults filled in but for the priority, since it counts whether one was given; ids not checked yet. */
export type CreateTaskRequest = z.output<typeof CreateTask>;

export const ReplayTask = z
  .strictObject({
    template: z.string().min(1).max(100).optional().meta({ description: 'Default: that of the task' }),
    parameters: JsonObjectSchema.optional().meta({ description: 'Each replaces the one of its name, null takes it away; the others stay' }),
    depends_on: z.array(z.string().max(100)).max(dependenciesMax).optional().meta({ description: 'Default: nothing' }),
    priority: Level.optional(),
    name: visibleText(255).optional(),
    description: z.string().max(10_000).optional(),
    metadata: JsonObjectSchema.optional(),
    retry: RetryRequest.optional(),
    limits: LimitsRequest.optional(),
  })
  .meta({ id: 'ReplayTask', description: 'What is to be different this time', example: { parameters: { prompt: 'Summarise the notes in German' } } });
export type ReplayRequest = z.output<typeof ReplayTask>;

export const TaskList = z
  .object({
    items: z.array(Task),
    next_cursor: z.string().nullable().meta({ description: 'Give it as `cursor` for the next page; null on the last' }),
    total: z.int().min(0).meta({ description: 'How many tasks the filters match, on all pages' }),
  })
  .meta({ id: 'TaskList', description: 'One page of tasks, newest first' });

/** How a task waits for another one: for its end, or for what it gave as well. */
export const dependencyTypes = ['sequential', 'data'] as const;

export const AddDependency = z
  .strictObject({
    task_id: z.string().max(100).meta({ description: 'Id of the task to wait for' }),
    dependency_type: z.enum(dependencyTypes).default('sequential'),
  })
  .meta({ id: 'AddDependency', description: 'A task to wait for', example: { task_id: '3f0c1f3e-5b7e-4f0e-8a43-6f3d4f1c9a10' } });

export const PriorityChange = z
  .strictObject({ priority: Level })
  .meta({ id: 'PriorityChange', description: 'The new priority of a task', example: { priority: 9 } });
