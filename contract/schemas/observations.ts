import { z } from 'zod';
import { HealthCheck } from './health.js';
import { Timestamp } from './task.js';

const share = (description: string) =>
  z
    .number()
    .min(0)
    .meta({ description: `${description}, 0 to 1` });

export const Alert = z
  .object({
    rule: z.string().meta({ description: 'Name of the rule', example: 'high_latency_ms' }),
    subject: z.string().meta({ description: 'What it holds for; empty: the whole', example: 'scheduling' }),
    message: z.string(),
    value: z.number().meta({ description: 'What was measured when it fired' }),
    threshold: z.number(),
    fired_at: Timestamp,
    cleared_at: Timestamp.nullable().meta({ description: 'Null: it holds' }),
  })
  .meta({
    id: 'Alert',
    description: 'A rule that holds, or did',
    example: {
      rule: 'high_error_rate',
      subject: '',
      message: '12 % of the attempts of steps failed; more than 5 % is too much.',
      value: 0.12,
      threshold: 0.05,
      fired_at: '2026-01-09T10:30:00.000Z',
      cleared_at: null,
    },
  });

export const AlertList = z.object({ items: z.array(Alert) }).meta({ id: 'AlertList', description: 'Alerts that hold, then the latest that have cleared' });
export type AlertListView = z.output<typeof AlertList>;

const Gpu = z.object({
  index: z.int(),
  name: z.string(),
  utilization: share('How busy it is').nullable(),
  used_bytes: z.number().nullable(),
  total_bytes: z.number().nullable(),
  celsius: z.number().nullable(),
  watts: z.number().nullable(),
});

const MachinePoint = z.object({
  at: Timestamp,
  cpu: share('Processor time in use'),
  memory: share('Memory in use'),
  models_bytes: z.number().nullable().meta({ description: 'Memory of models; null where no host runs' }),
  gpu: share('How busy its GPUs were, the mean of them').nullable(),
  gpu_memory: share('Memory of its GPUs in use').nullable(),
});

export const ResourceUsageHistory = z
  .object({
    from: Timestamp,
    until: Timestamp,
    step_seconds: z.int().meta({ description: 'Each point is the mean of so many seconds' }),
    machines: z
      .array(
        z.object({
          machine: z.string(),
          seen_at: Timestamp,
          memory_bytes: z.number(),
          gpus: z.array(Gpu),
          gpu_note: z.string().nullable().meta({ description: 'Why no GPU is visible' }),
          points: z.array(MachinePoint),
        }),
      )
      .meta({ description: 'Every machine that an engine or a host runs on' }),
    flow: z
      .array(
        z.object({
          at: Timestamp,
          tasks_per_minute: z.number().nullable().meta({ description: 'Tasks that ended' }),
          tokens_per_second: z.number().nullable(),
          loading_share: z.number().nullable().meta({ description: 'Share of the time of hosts that went into loading models' }),
        }),
      )
      .meta({ description: 'What was done, from the collections of `performance_metrics`' }),
  })
  .meta({ id: 'ResourceUsageHistory', description: 'How machines were used, and what they did' });
export type ResourceUsageHistoryView = z.output<typeof ResourceUsageHistory>;

export const SystemReport = z
  .object({
    status: z.enum(['ok', 'degraded', 'down']),
    checked_at: Timestamp,
    checks: z.array(HealthCheck.extend({ name: z.string() })),
    versions: z.array(z.object({ part: z.string(), version: z.string() })),
    engines: z.array(z.object({ id: z.string(), slots: z.int(), sandbox: z.string().nullable(), lease_until: Timestamp, live: z.boolean() })),
    hosts: z.array(
      z.object({ id: z.string(), address: z.string(), ready: z.boolean(), live: z.boolean(), version: z.string().nullable(), lease_until: Timestamp }),
    ),
    counts: z.object({ queued: z.int(), running: z.int(), waiting_steps: z.int(), streams: z.int().meta({ description: 'Of the process that answers' }) }),
    broken_templates: z.array(z.string()).meta({ description: 'Files that could not be read as templates' }),
    alerts: z.array(Alert).meta({ description: 'Those that hold, then the latest' }),
    troubles: z.array(z.string()).meta({ description: 'What keeps work waiting, or needs somebody, one sentence each' }),
  })
  .meta({ id: 'SystemReport', description: 'How the parts are, in one answer' });
export type SystemReportView = z.output<typeof SystemReport>;

export const PerformanceReport = z
  .object({
    from: Timestamp,
    until: Timestamp,
    avg_task_execution_time: z.number().meta({ description: 'Seconds from the start of a task to its end, the mean of those that ended; 0 when none did' }),
    avg_workflow_completion_time: z.number().meta({ description: 'Seconds from the creation of a task to its end, waiting included; 0 when none ended' }),
    tasks_completed: z.int(),
    resource_utilization: z.record(z.string(), z.number()).meta({ description: 'Mean share in use by resource, 0 to 1' }),
    averages: z.record(z.string(), z.number()).meta({ description: 'Mean of every other collected metric; those of several subjects as `metric of subject`' }),
    availability: z
      .array(
        z.object({
          part: z.string(),
          month: z.string().meta({ description: 'Year and month, UTC' }),
          minutes: z.int().meta({ description: 'From its first probe in the month on' }),
          minutes_ok: z.int(),
          share: z.number().min(0).max(1),
        }),
      )
      .meta({ description: 'In how many minutes a part said that it works. A minute in which nobody said so is one in which it did not' }),
  })
  .meta({ id: 'PerformanceReport', description: 'How the installation performed' });
export type PerformanceReportView = z.output<typeof PerformanceReport>;
