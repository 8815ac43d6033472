import type { Logger } from 'pino';
import type { Meter } from '../contract/metrics.js';
import type { Caller } from '../service/caller.js';
import type { Services } from '../service/services.js';

export interface ApiConfig {
  /** header that carries an API key, beside `Authorization: Bearer` */
  readonly apiKeyHeader: string;
  readonly bodyBytesMax: number;
  /** a request that is not answered by then gets 503 */
  readonly requestTimeoutMs: number;
  /** names of this server that a browser may show pages under, without a port, beside those of the loopback; `*`: any */
  readonly allowedHosts: readonly string[];
  /** whether /docs and /openapi.json are open to everybody */
  readonly publicDocs: boolean;
  /** whether /metrics is open to everybody */
  readonly publicMetrics: boolean;
  /** address of the Temporal Web UI, for people; null when it is not known */
  readonly temporalUi: string | null;
  readonly temporalNamespace: string;
  readonly version: string;
}

export interface AppDeps {
  readonly services: Services;
  readonly log: Logger;
  readonly config: ApiConfig;
  /** counts the requests; default: nobody does */
  readonly meter?: Meter;
}

/** What a handler finds in `c.var`. */
export interface AppEnv {
  Variables: {
    requestId: string;
    services: Services;
    config: ApiConfig;
    log: Logger;
    /** who asks; absent on public routes, so a handler of a route with access gets it from `callerOf` */
    caller?: Caller;
    /** whether what the request came with still stands for the same user in the same role; for answers that last */
    stillValid?: () => Promise<boolean>;
  };
}
