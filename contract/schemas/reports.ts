import { z } from 'zod';
import { TaskIdSchema, Timestamp } from './task.js';

/** Ranges that trends and errors are told of, with the length of one of their buckets, in seconds. */
export const reportRanges = {
  '24h': { seconds: 86_400, bucketSeconds: 3_600 },
  '7d': { seconds: 604_800, bucketSeconds: 21_600 },
  '30d': { seconds: 2_592_000, bucketSeconds: 86_400 },
} as const;
export type ReportRange = keyof typeof reportRanges;
export const reportRangeNames = Object.keys(reportRanges) as [ReportRange, ...ReportRange[]];

/** Ids of tasks that one group of errors names at most; one bulk request takes as many. */
export const groupIdsMax = 1_000;

const Seconds = z.number().min(0).nullable();
const Spread = z
  .object({ median: Seconds, p90: Seconds.meta({ description: 'Nine of ten took at most this' }) })
  .meta({ id: 'Spread', description: 'Durations in seconds; null when there is none' });

const counts = { completed: z.int().min(0), failed: z.int().min(0), cancelled: z.int().min(0) };

export const TrendBucket = z
  .object({
    at: Timestamp.meta({ description: 'When the bucket begins' }),
    ...counts,
    ran: Spread.meta({ description: 'From the start to the end, of tasks that completed' }),
    waited: Spread.meta({ description: 'From the creation to the start, of tasks that started' }),
  })
  .meta({ id: 'TrendBucket', description: 'Tasks that ended in one stretch of time' });
export type TrendBucketView = z.output<typeof TrendBucket>;

export const Trends = z
  .object({
    from: Timestamp,
    until: Timestamp,
    bucket_seconds: z.int().min(1),
    complete: z.boolean().meta({ description: 'False where so many tasks ended that only the latest 100,000 are counted' }),
    templates: z
      .array(
        z.object({
          template: z.string(),
          ...counts,
          ran: Spread,
          waited: Spread,
          buckets: z.array(TrendBucket).meta({ description: 'Oldest first; those in which nothing ended are left out' }),
        }),
      )
      .meta({ description: 'Those of which most tasks ended first' }),
    steps: z
      .array(
        z.object({
          template: z.string(),
          step: z.string(),
          step_type: z.string(),
          runs: z.int().min(0).meta({ description: 'Tries that ended' }),
          failed: z.int().min(0),
          ran: Spread.meta({ description: 'Of tries that completed' }),
        }),
      )
      .meta({ description: 'The slowest steps first, of the latest 5,000 of these tasks' }),
  })
  .meta({ id: 'Trends', description: 'Tasks that ended, over time' });
export type TrendsView = z.output<typeof Trends>;

export const ErrorGroup = z
  .object({
    key: z.string().meta({ description: 'Names the group; the same failures give the same key', example: 'k3Jd0s9aQ2xV' }),
    template: z.string(),
    step: z.string().nullable(),
    code: z.string(),
    pattern: z.string().meta({ description: 'The message, with what differs from task to task replaced', example: 'no file <path> after <n> ms' }),
    message: z.string().meta({ description: 'The message of the latest, its beginning' }),
    count: z.int().min(1),
    first_seen: Timestamp,
    last_seen: Timestamp,
    task_ids: z.array(TaskIdSchema).meta({ description: 'The latest first, as many as asked for' }),
  })
  .meta({ id: 'ErrorGroup', description: 'Failed tasks whose errors are alike' });
export type ErrorGroupView = z.output<typeof ErrorGroup>;

export const ErrorGroups = z
  .object({
    from: Timestamp,
    until: Timestamp,
    complete: z.boolean().meta({ description: 'False where so many tasks failed that only the latest 10,000 are grouped' }),
    failed: z.int().min(0).meta({ description: 'Tasks of all groups' }),
    items: z.array(ErrorGroup).meta({ description: 'The largest first' }),
  })
  .meta({ id: 'ErrorGroups', description: 'Failed tasks by what went wrong' });
export type ErrorGroupsView = z.output<typeof ErrorGroups>;
