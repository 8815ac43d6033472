import { z } from 'zod';

/** The parts that are checked. */
export const healthChecks = ['database_connection', 'temporal_connection', 'engine', 'ollama', 'system_resources'] as const;
export type HealthCheckName = (typeof healthChecks)[number];

export const HealthCheck = z
  .object({
    status: z.enum(['ok', 'degraded', 'down']),
    detail: z.string().meta({ description: 'One sentence for people' }),
    milliseconds: z.number().min(0).meta({ description: 'What the check took' }),
  })
  .meta({ id: 'HealthCheck', description: 'How one part is', example: { status: 'ok', detail: 'answers', milliseconds: 2 } });
export type HealthCheckView = z.output<typeof HealthCheck>;

export const Health = z
  .object({
    status: z.enum(['ok', 'degraded', 'down']).meta({ description: '`down`: tasks cannot be accepted; `degraded`: they are accepted, and some have to wait' }),
    version: z.string(),
    checks: z.object(Object.fromEntries(healthChecks.map((name) => [name, HealthCheck])) as Record<HealthCheckName, typeof HealthCheck>),
  })
  .meta({ id: 'Health', description: 'How the service and its parts are' });
export type HealthView = z.output<typeof Health>;

export const Liveness = z.object({ status: z.literal('ok') }).meta({ id: 'Liveness', description: 'The process answers', example: { status: 'ok' } });
export const Readiness = z.object({ status: z.literal('ok') }).meta({ id: 'Readiness', description: 'Whether tasks are accepted', example: { status: 'ok' } });
