import { z } from 'zod';

export const settingOrigins = ['default', 'file', 'variable', 'provided'] as const;

export const Configuration = z
  .object({
    environment: z.string().meta({ description: 'Value of ORCHESTRA_ENV', example: 'production' }),
    file: z.string().meta({ example: 'config/production.yaml' }),
    items: z.array(
      z.object({
        key: z.string(),
        value: z.unknown().meta({ description: 'What is in force; null: it is not set and the program decides. Secrets are `[redacted]`' }),
        default: z.unknown(),
        origin: z.enum(settingOrigins).meta({ description: 'Who has set it; `provided`: `orchestra up`' }),
        variable: z.string().nullable().meta({ description: 'Environment variable that sets it' }),
        in_force: z.boolean().meta({ description: '`false`: accepted, and no part reads it yet' }),
      }),
    ),
  })
  .meta({
    id: 'Configuration',
    description: 'Every key of the configuration of the process that answers',
    example: {
      environment: 'production',
      file: 'config/production.yaml',
      items: [{ key: 'concurrency.max_workers', value: 20, default: 10, origin: 'variable', variable: 'MAX_WORKERS', in_force: true }],
    },
  });
export type ConfigurationView = z.output<typeof Configuration>;
