import { mkdir, mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import type { Client } from '@temporalio/client';
import { connect, disconnect, type Sql } from '../db/connect.js';
import { readProcessFile } from '../mains/process-file.js';
import { connectClient } from '../temporal/client.js';
import { createProduct, type Product } from '../test/chaos/product.js';

/** The built product as `npm start` runs it, in a home of its own, and the ways into it that a measurement needs. */
export interface BenchInstallation {
  readonly product: Product;
  readonly databaseUrl: string;
  readonly sql: Sql;
  readonly client: Client;
  readonly temporal: { readonly address: string; readonly namespace: string };
  readonly temporalMetrics: string;
  post(body: object): Promise<{ id: string }>;
  /** resident memory in MiB by process name */
  memory(): Promise<ReadonlyMap<string, number>>;
  stop(): Promise<void>;
}

export async function startBenchInstallation(options: { models: boolean; env?: Record<string, string>; home?: string }): Promise<BenchInstallation> {
  const home = options.home ?? (await mkdtemp(path.join(tmpdir(), 'bench-')));
  await mkdir(home, { recursive: true });
  const product = await createProduct(home, {
    models: options.models,
    env: { TEMPLATES_DIRECTORY: path.join(import.meta.dirname, 'templates'), LOG_LEVEL: 'WARNING', ...options.env },
  });
  await product.up();
  const address = `127.0.0.1:${(await readProcessFile(home, 'temporal'))?.port}`;
  const databaseUrl = options.env?.['DATABASE_URL'] ?? (await product.databaseUrl());
  const sql = connect(databaseUrl, { applicationName: 'bench', connectionsMax: 4 });
  await engineReady(sql);
  const client = await connectClient({ address, namespace: 'orchestra' });
  const headers = await product.headers();
  const log = await readFile(path.join(home, 'logs', 'temporal.log'), 'utf8');
  return {
    product,
    databaseUrl,
    sql,
    client,
    temporal: { address, namespace: 'orchestra' },
    temporalMetrics: /Metrics:\s+(http\S+)/.exec(log)?.[1]?.replace('localhost', '127.0.0.1') ?? '',
    async post(body) {
      const answer = await fetch(`${product.api}/api/v1/tasks`, { method: 'POST', headers, body: JSON.stringify(body) });
      if (answer.status !== 201) throw new Error(`${answer.status} ${await answer.text()}`);
      return (await answer.json()) as { id: string };
    },
    async memory() {
      const found = new Map<string, number>();
      for (const [name, { pid }] of await product.processes()) found.set(name, await residentMiB(pid));
      return found;
    },
    async stop() {
      await client.connection.close();
      await disconnect(sql);
      await product.down();
      if (options.home === undefined) await rm(home, { recursive: true, force: true });
    },
  };
}

/** The API is ready before the engine has made the namespace. */
async function engineReady(sql: Sql): Promise<void> {
  while ((await sql`select 1 from engines`).length === 0) await new Promise((resolve) => setTimeout(resolve, 50));
}

async function residentMiB(pid: number): Promise<number> {
  const status = await readFile(`/proc/${pid}/status`, 'utf8');
  return Math.round(Number(/VmRSS:\s+(\d+)/.exec(status)?.[1] ?? 0) / 1024);
}
