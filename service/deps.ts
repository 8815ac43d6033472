import type { Client } from '@temporalio/client';
import type { Logger } from 'pino';
import type { Meter } from '../contract/metrics.js';
import type { Sql } from '../db/connect.js';

/** What the use cases work with; built once by each main. */
export interface ServiceDeps {
  readonly sql: Sql;
  /** the client of Temporal; rejects or waits while the server is away, so callers bound it */
  readonly temporal: () => Promise<Client>;
  readonly log: Logger;
  /** left out: nothing is counted */
  readonly meter?: Meter;
  readonly config: ServiceConfig;
}

export interface ServiceConfig {
  /** the server's `matching.priorityLevels` */
  readonly priorityLevels: number;
  /** how long a request waits for Temporal before it leaves the work to the outbox */
  readonly temporalTimeoutMs: number;
  /** tasks that may be queued; a further one is refused */
  readonly queueMax: number;
  /** version of this program */
  readonly version: string;
}
