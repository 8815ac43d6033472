import { getEventListeners } from 'node:events';
import { type AddressInfo, createServer, type Server, type Socket } from 'node:net';
import pino from 'pino';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { loadConfig } from '../../../config.js';
import { answered, connect, connectionsThatFit, DatabaseUnavailable, disconnect, isBrokenRequest, untilAvailable } from '../../../db/connect.js';
import { type Channel, listen, notify } from '../../../db/listen.js';
import { postgresCommand } from '../../../db/server/postgres-cluster.js';
import { connectionBroke, unavailable } from '../../../service/unavailable.js';
import { startOwnPostgres } from '../../support/own-postgres.js';
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
    const sql = connect(db.url, { applicationName: 'test', statementTimeoutMs: 500 });
    const error: unknown = await answered(sql`select pg_sleep(60)`).catch((cause: unknown) => cause);
    expect(error).toBeInstanceOf(DatabaseUnavailable);
    // The server was reached and carried out nothing, so that nobody asks again at once.
    expect(connectionBroke(error)).toBe(false);
    expect(unavailable(error)?.message).toContain('took too long');
    await disconnect(sql);
  });

  test('a pool goes on after the server has cut its connections [fault-18]', async () => {
    const sql = connect(db.url, { applicationName: 'to-be-cut', connectionsMax: 2 });
    await sql`select 1`;
    await db.sql`select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'to-be-cut'`;
    expect(await untilAvailable(() => answered(sql`select 1 as one`), { patienceMs: 10_000 })).toEqual([{ one: 1 }]);
    await disconnect(sql);
  });

  test('a pool whose PostgreSQL is killed again and again answers as soon as it is back, and its process lives on [fault-18]', async () => {
    const own = await startOwnPostgres();
    const sql = connect(own.adminUrl, { applicationName: 'test' });
    let over = false;
    const busy = (call: () => Promise<unknown>) => async () => {
      while (!over) await call().catch(() => new Promise((resolve) => setTimeout(resolve, 50)));
    };
    // Small queries wait in the driver's buffer for the next turn of the event loop; transactions are rolled back when they fail.
    const query = busy(() => answered(sql`select ${1}::integer`));
    const transaction = busy(() => answered(sql.begin(async (tx) => [await tx`select 1`, await tx`select ${2}::integer`])));
    const traffic = [query, query, query, transaction, transaction, transaction].map((run) => run());
    for (let kill = 0; kill < 5; kill += 1) {
      await new Promise((resolve) => setTimeout(resolve, 200));
      await own.kill();
      await own.start();
      // A call that fails later than this had waited for a deadline: of a connection (5 s) or of the call (8 s).
      const repeated = () => untilAvailable(() => answered(sql`select 1 as one`), { patienceMs: 4_000 });
      expect(await Promise.all(Array.from({ length: 12 }, repeated))).toEqual(Array.from({ length: 12 }, () => [{ one: 1 }]));
    }
    over = true;
    await Promise.all(traffic);
    await disconnect(sql);
    await own.stop();
  }, 120_000);

  test('a pool keeps its connections when the server has no room for another one', async () => {
    const role = `crowded_${process.pid}`;
    await db.sql`create role ${db.sql(role)} login password 'crowded' connection limit 1`;
    const url = Object.assign(new URL(db.url), { username: role, password: 'crowded' });
    const sql = connect(url.href, { applicationName: 'crowded', connectionsMax: 2 });
    const [before] = await sql<{ pid: number }[]>`select pg_backend_pid() as pid`;
    const slow = sql`select pg_sleep(0.5)`.execute();
    await expect(answered(sql`select 1`)).rejects.toThrow('too many connections for role');
    await slow;
    expect(await sql`select pg_backend_pid() as pid`).toEqual([before]);
    await disconnect(sql);
    await db.sql`drop role ${db.sql(role)}`;
  });

  test('a transaction whose connection was cut asks nothing more, whoever has that connection now', async () => {
    const sql = connect(db.url, { applicationName: 'cut-within', connectionsMax: 1 });
    let asked: Promise<unknown> | undefined;
    const call = sql.begin(async (tx) => {
      await tx`create temporary table seen (n integer)`;
      await db.sql`select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'cut-within'`;
      await new Promise((resolve) => setTimeout(resolve, 300)); // as for an agent that answers over HTTP
      asked = Promise.resolve(tx`select set_config('application_name', 'outside-its-transaction', false)`);
      await asked;
    });
    await expect(answered(call)).rejects.toThrow(DatabaseUnavailable);
    await eventually(async () => asked !== undefined);
    const [now] = await untilAvailable(() => answered(sql<{ name: string }[]>`select current_setting('application_name') as name`), { patienceMs: 4_000 });
    expect(now?.name).toBe('cut-within');
    await disconnect(sql);
  });

  test('a transaction that fails in PostgreSQL or in its own code is rolled back, and its connection goes on', async () => {
    const sql = connect(db.url, { applicationName: 'rolled-back', connectionsMax: 1 });
    await sql`select 1`;
    await expect(sql.begin((tx) => tx`select 1 / 0`)).rejects.toThrow('division by zero');
    const gone = Object.assign(new Error('somebody else was cut'), { code: 'ECONNRESET' });
    await expect(
      sql.begin('isolation level serializable', async (tx) => {
        await tx`create table never_made (n integer)`;
        throw gone;
      }),
    ).rejects.toBe(gone);
    expect(await sql`select 1 from pg_tables where tablename = 'never_made'`).toHaveLength(0);
    const [after] = await sql<{ list: number[] }[]>`select ${[1, 2]}::integer[] as list`;
    expect(after).toEqual({ list: [1, 2] });
    await disconnect(sql);
  });

  test('a pool has at most its connections, and after a burst at most 20 although some queries go on [CFG-06]', async () => {
    const { poolSize, maxOverflow } = loadConfig({}).database;
    const connectionsMax = poolSize + maxOverflow;
    expect([poolSize, connectionsMax]).toEqual([20, 50]);
    const sql = connect(db.url, { applicationName: 'counted', connectionsMax });
    const count = async () => (await db.sql`select 1 from pg_stat_activity where application_name = 'counted'`).count;
    const burst = Promise.all(Array.from({ length: 200 }, () => sql`select pg_sleep(0.3)`));
    let most = 0;
    await eventually(async () => {
      most = Math.max(most, await count());
      return most >= connectionsMax;
    });
    await burst;
    expect(most).toBe(connectionsMax);
    // An engine at rest asks about five times a second.
    let looks = 0;
    await eventually(async () => {
      if (looks++ % 4 === 0) await sql`select 1`;
      return (await count()) <= poolSize;
    });
    await disconnect(sql);
  });

  test('the pools of three mains fit the server, with room for their listeners [CFG-06]', async () => {
    const [server] = await db.sql<{ room: number }[]>`
      select current_setting('max_connections')::integer - current_setting('superuser_reserved_connections')::integer as room`;
    expect(3 * (await connectionsThatFit(db.sql, 100_000)) + 3).toBeLessThanOrEqual(server!.room);
    expect(await connectionsThatFit(db.sql, 2)).toBe(2);
    const { args } = postgresCommand({ binary: 'postgres', dataDir: '/data', user: null, password: '' }, 5432);
    const own = Number(/max_connections=(\d+)/.exec(args.join(' '))?.[1]);
    const { poolSize, maxOverflow } = loadConfig({}).database;
    expect(3 * (poolSize + maxOverflow + 2)).toBeLessThanOrEqual(own - 3);
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
