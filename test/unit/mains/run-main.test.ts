import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { type AddressInfo, createServer, type Server } from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';

/** Lets a client in as PostgreSQL does, and breaks the connection at its first question. */
const breaking = createServer((socket) => {
  let begun = false;
  socket
    .on('error', () => {})
    .on('data', () => {
      if (begun) socket.resetAndDestroy();
      else socket.write(Buffer.from([82, 0, 0, 0, 8, 0, 0, 0, 0, 90, 0, 0, 0, 5, 73])); // AuthenticationOk, ReadyForQuery
      begun = true;
    });
});
let server: Server;
let home: string;
beforeAll(async () => {
  server = breaking.listen(0, '127.0.0.1');
  await once(server, 'listening');
  home = await mkdtemp(path.join(tmpdir(), 'run-main-'));
});
afterAll(async () => {
  server.close();
  await rm(home, { recursive: true, force: true });
});

test('a process outlives a connection to PostgreSQL that is lost while it is made, and whoever asked is told [fault-18]', async () => {
  const { port } = server.address() as AddressInfo;
  const script = path.join(import.meta.dirname, 'main-that-connects.ts');
  const child = spawn(process.execPath, ['--import', 'tsx', script, `postgres://me:x@127.0.0.1:${port}/x`], {
    env: { PATH: process.env['PATH'] ?? '', HOME: home, ORCHESTRA_HOME: home },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  let said = '';
  for (const stream of [child.stdout, child.stderr]) stream.on('data', (chunk: Buffer) => void (said += chunk.toString()));
  const exited = once(child, 'exit');
  while (!/refused|cannot go on/.test(said) && child.exitCode === null) await new Promise((resolve) => setTimeout(resolve, 20));
  child.kill('SIGTERM');
  expect((await exited)[0], said).toBe(0);
  expect(said).toContain('a connection was lost while it was made');
  expect(said).toMatch(/refused: (ECONNRESET|CONNECTION_CLOSED)/);
}, 60_000);
