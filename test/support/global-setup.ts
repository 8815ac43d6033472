import { spawn } from 'node:child_process';
import { once } from 'node:events';
import path from 'node:path';
import { createInterface } from 'node:readline';
import type { TestProject } from 'vitest/node';

/** Where the servers of this run answer. */
export interface ServerAddresses {
  /** URL of a database whose user may create databases */
  readonly postgres: string;
  /** host:port */
  readonly temporal: string;
  /** registered Temporal namespaces; each file takes its own */
  readonly namespaces: readonly string[];
  /** base URL, or why there is none */
  readonly ollama: string | { readonly missing: string };
  /** a directory of this run, removed at its end */
  readonly home: string;
}

declare module 'vitest' {
  export interface ProvidedContext {
    servers: ServerAddresses;
  }
}

interface Running {
  readonly addresses: ServerAddresses;
  readonly stop: () => Promise<void>;
}

/**
 * Starts the servers in a process that ends with this one.
 * TEST_USE_SERVERS, as JSON `{"postgres": url, "temporal": "host:port", "namespaces": [...], "ollama": url}`, names servers to use instead; all fields are optional.
 */
async function startServers(): Promise<Running> {
  const keeper = path.join(import.meta.dirname, 'server-keeper.ts');
  // Detached: a Ctrl-C in the terminal reaches this process only, and the keeper hears of it by its standard input.
  const child = spawn(process.execPath, ['--import', 'tsx', keeper, process.env['TEST_USE_SERVERS'] ?? '{}'], {
    stdio: ['pipe', 'pipe', 'inherit'],
    detached: true,
  });
  const exited = once(child, 'exit');
  const ready = await Promise.race([once(createInterface({ input: child.stdout }), 'line'), exited.then(() => undefined)]);
  if (ready === undefined) throw new Error('The test servers did not start; the reason is printed above.');
  return {
    addresses: JSON.parse(String(ready[0])) as ServerAddresses,
    async stop() {
      child.stdin.end();
      await exited;
    },
  };
}

// Each project of vitest.config.ts calls setup once; they share one set of servers, and the last to finish stops it.
const shared = globalThis as { testServers?: { users: number; running: Promise<Running> } };

export default async function setup(project: TestProject): Promise<() => Promise<void>> {
  const servers = (shared.testServers ??= { users: 0, running: startServers() });
  servers.users += 1;
  const { addresses, stop } = await servers.running;
  project.provide('servers', addresses);
  return async () => {
    servers.users -= 1;
    if (servers.users > 0) return;
    delete shared.testServers;
    await stop();
  };
}
