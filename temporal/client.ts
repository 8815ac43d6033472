import { Client, Connection } from '@temporalio/client';
import type { NativeConnection } from '@temporalio/worker';
import { retryUntilClosed } from './grpc-retry.js';

/** Where a Temporal server is, and as whom we come. */
export interface TemporalTarget {
  /** host:port */
  readonly address: string;
  readonly namespace: string;
  readonly tls?: boolean;
  readonly apiKey?: string;
}

function connectionOptions({ address, tls, apiKey }: TemporalTarget): { address: string; tls: boolean; apiKey?: string } {
  return { address, tls: tls ?? apiKey !== undefined, ...(apiKey === undefined ? {} : { apiKey }) };
}

/** A client with a connection of its own, as {@link connectClient} makes it. */
export type TemporalClient = Client & { readonly connection: Connection };

/**
 * A client of the server; close it by `client.connection.close()`.
 * @throws when the server does not answer within 10 s
 */
export async function connectClient(target: TemporalTarget): Promise<TemporalClient> {
  const connection = await Connection.connect({ ...connectionOptions(target), connectTimeout: 10_000, interceptors: [retryUntilClosed] });
  return new Client({ connection, namespace: target.namespace }) as TemporalClient;
}

/** The one connection that all workers of a process share; close it after the last of them. */
export async function connectNative(target: TemporalTarget): Promise<NativeConnection> {
  const worker = await import('@temporalio/worker'); // loaded here: the API has no worker, and it takes a second and 60 MB
  return worker.NativeConnection.connect(connectionOptions(target));
}
