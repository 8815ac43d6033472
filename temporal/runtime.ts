import { DefaultLogger, type LogLevel, Runtime } from '@temporalio/worker';
import type { Logger } from 'pino';

const ours: Record<LogLevel, 'trace' | 'debug' | 'info' | 'warn' | 'error'> = { TRACE: 'trace', DEBUG: 'debug', INFO: 'info', WARN: 'warn', ERROR: 'error' };

/**
 * Sets up Temporal's runtime, once per process and before any worker or native connection:
 * its lines, those of workflows and of activities go to our logger, and signals stay with the main, which drains in its own order.
 */
export function installRuntime(log: Logger): void {
  Runtime.install({
    shutdownSignals: [],
    logger: new DefaultLogger(log.isLevelEnabled('debug') ? 'DEBUG' : 'INFO', ({ level, message, meta }) => {
      const { error, ...fields } = { ...meta } as Record<string, unknown>;
      // Its own states are of no use to a person at INFO; a workflow's and an activity's lines are theirs.
      const own = fields['sdkComponent'] === 'core' || fields['sdkComponent'] === 'worker';
      log[own && level === 'INFO' ? 'debug' : ours[level]]({ ...fields, ...(error === undefined ? {} : { err: error }) }, message);
    }),
    telemetryOptions: { logging: { filter: { core: 'WARN', other: 'WARN' }, forward: {} } },
  });
}
