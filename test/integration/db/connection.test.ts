import { getEventListeners } from 'node:events';
import { type AddressInfo, createServer, type Server, type Socket } from 'node:net';
import pino from 'pino';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { answered, connect, DatabaseUnavailable, disconnect, isBrokenRequest, untilAvailable } from '../../../db/connect.js';
import { type Channel, listen, notify } from '../../../db/listen.js';
import { createTestDatabase, eventually, type TestDatabase } from '../../support/servers.js';

const log = pino({ level: 'silent' });
let db: TestDatabase;

beforeAll(async () => {
  db = await createTestDatabase();
});
afterAll(() => db.drop());

/** A server that takes connections and never says a word. */
async function silentServer(): Promise<{ url: string; close(): void }> {
  const sockets = new Set<Socket>();
  const server: Server = createServer((socket) => void sockets.add(socket));
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  return {
    url: `postgres://x@127.0.0.1:${(server.address() as AddressInfo).port}/x`,
    close() {
      for (const socket of sockets) socket.destroy();
      server.close();
    },
  };
}

/** Sees which abort listeners are added from now on: how many, and the most that one signal had at a time. */
function watchAbortListeners(): { added(): number; most(): number; restore(): void } {
  const original = EventTarget.prototype.addEventListener;
  let added = 0;
  let most = 0;
  EventTarget.prototype.addEventListener = function (this: EventTarget, ...args: Parameters<typeof original>) {
    original.apply(this, args);
    if (!(this instanceof AbortSignal)) return;
    added += 1;
    most = Math.max(most, getEventListeners(this, 'abort').length);
  };
  return { added: () => added, most: () => most, restore: () => void (EventTarget.prototype.addEventListener = original) };
}

describe('a connection', () => {
  test('a server that never answers is unavailable after the deadline, and the pool still closes [fault-20]', async () => {
    const server = await silentServer();
    const sql = connect(server.url, { applicationName: 'test' });
    await expect(answered(sql`select 1`, 200)).rejects.toThrow(DatabaseUnavailable);
    await disconnect(sql);
    server.close();
  });

  test('a port that nobody serves is unavailable', async () => {
    const server = await silentServer();
    server.close();
    const sql = connect(server.url, { applicationName: 'test' });
    await expect(answered(sql`select 1`)).rejects.toThrow(DatabaseUnavailable);
    await disconnect(sql);
  });

  test('a statement that takes too long is cut by the server and named unavailable [fault-20]', async () => {
    const sql = connect(db.url, { applicationName: 'test', statementTimeoutMs: 50 });
    await expect(answered(sql`select pg_sleep(60)`)).rejects.toThrow(DatabaseUnavailable);
    await disconnect(sql);
  });

  test('a pool goes on after the server has cut its connections [fault-18]', async () => {
    const sql = connect(db.url, { applicationName: 'to-be-cut', connectionsMax: 2 });
    await sql`select 1`;
    await db.sql`select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'to-be-cut'`;
    expect(await untilAvailable(() => answered(sql`select 1 as one`), { patienceMs: 10_000 })).toEqual([{ one: 1 }]);
    await disconnect(sql);
  });

  test('what a repeat cannot mend is told from what it can', async () => {
    const broken = await answered(db.sql`select 1 / 0`).catch((error: unknown) => error);
    expect(isBrokenRequest(broken)).toBe(true);
    expect(isBrokenRequest(new DatabaseUnavailable('x'))).toBe(false);
    let calls = 0;
    const failing = () => {
      calls += 1;
      return answered(db.sql`select 1 / 0`);
    };
    await expect(untilAvailable(failing, { patienceMs: 10_000 })).rejects.toMatchObject({ code: '22012' });
    expect(calls).toBe(1);
  });

  test('patience ends, and a signal ends it at once', async () => {
    const away = () => Promise.reject(new DatabaseUnavailable('away'));
    await expect(untilAvailable(away, { patienceMs: 120 })).rejects.toThrow(DatabaseUnavailable);
    await expect(untilAvailable(away, { patienceMs: 600_000, signal: AbortSignal.abort() })).rejects.toThrow(DatabaseUnavailable);
  });
});

describe('listening', () => {
  test('notifications arrive with channel and payload, and after a cut the listener is told to read again [fault-18]', async () => {
    const heard: [Channel, string][] = [];
    let opened = 0;
    const listener = listen(db.url, ['line', 'cancel'], (channel, payload) => heard.push([channel, payload]), { onReconnect: () => (opened += 1), log });
    await eventually(() => opened === 1);
    await notify(db.sql, 'cancel', 'some-task');
    await notify(db.sql, 'outbox');
    await notify(db.sql, 'line');
    await eventually(() => heard.length >= 2);
    expect(heard).toEqual([
      ['cancel', 'some-task'],
      ['line', ''],
    ]);
    await db.sql`select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'orchestra-listen' and datname = current_database()`;
    await eventually(() => opened === 2);
    await notify(db.sql, 'line', 'again');
    await eventually(() => heard.some(([, payload]) => payload === 'again'));
    await listener.close();
  });

  test('a listener that listens for long keeps nothing of its checks', async () => {
    const counts = watchAbortListeners();
    let opened = 0;
    const listener = listen(db.url, ['line'], () => {}, { onReconnect: () => (opened += 1), checkEveryMs: 1, log });
    await eventually(() => opened === 1);
    await eventually(() => counts.added() > 50);
    expect(counts.most()).toBeLessThan(5);
    await listener.close();
    counts.restore();
  });

  test('a listener can be closed while the server is away', async () => {
    const server = await silentServer();
    server.close();
    const listener = listen(server.url, ['line'], () => {}, { onReconnect: () => {}, log });
    await listener.close();
  });
});
