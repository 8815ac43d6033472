import { pino } from 'pino';
import { expect, test } from 'vitest';
import { HostTaken } from '../../../db/leases.js';
import { type HostLease, keepLease, type LeaseRows } from '../../../host/lease-keeper.js';

const times = { leaseMs: 200, renewEveryMs: 20, watchEveryMs: 10 };
const log = pino({ level: 'silent' });

/** The one row of a host, in memory. */
function createRow(options: { heldBy?: 'the living' | 'the dead' | 'another' } = {}) {
  let epoch = options.heldBy ? 1 : 0;
  let free = !options.heldBy;
  let ends = 0;
  let looks = 0;
  const row: { renewable: boolean; readonly released: number[]; readonly rows: LeaseRows } = {
    renewable: true,
    released: [],
    rows: {
      async acquire() {
        if (!free) return null;
        free = false;
        epoch += 1;
        return { epoch };
      },
      async holder() {
        looks += 1;
        if (options.heldBy === 'the dead' && looks === 3) free = true;
        if (options.heldBy === 'the living' || options.heldBy === 'another') ends += 1;
        return { host: options.heldBy === 'another' ? 'shelf' : 'desk', address: 'http://127.0.0.1:11434', lease: `${epoch}/${ends}` };
      },
      async renew() {
        if (!row.renewable) free = true;
        return row.renewable;
      },
      async release(of: number) {
        row.released.push(of);
      },
    },
  };
  return row;
}

function keep(rows: LeaseRows) {
  const acquired: HostLease[] = [];
  const lost: number[] = [];
  let onChange: () => void = () => {};
  const changed = () => new Promise<void>((resolve) => void (onChange = resolve));
  const keeper = keepLease({
    host: 'desk',
    rows,
    times,
    onAcquired: async (lease) => {
      acquired.push(lease);
      onChange();
    },
    onLost: async (lease) => void lost.push(lease.epoch),
    onTaken: () => {},
    log,
  });
  return { keeper, acquired, lost, changed };
}

test('a second process on a living host is refused [fault-32]', async () => {
  await expect(keep(createRow({ heldBy: 'the living' }).rows).keeper).rejects.toThrow(HostTaken);
});

test('a host whose model server another living host manages is refused, with what to do [MODEL-17]', async () => {
  const refused = keep(createRow({ heldBy: 'another' }).rows).keeper;
  await expect(refused).rejects.toThrow(/http:\/\/127\.0\.0\.1:11434 is managed by host "shelf" already.*OLLAMA_HOST, or stop host "shelf"/);
});

test('a lease that a dead process left is waited for', async () => {
  const { keeper, acquired } = keep(createRow({ heldBy: 'the dead' }).rows);
  const kept = await keeper;
  expect(acquired.map(({ epoch }) => epoch)).toEqual([2]);
  await kept.stop();
});

test('a lost lease aborts its work, and a new one has a new epoch', async () => {
  const row = createRow();
  const { keeper, acquired, lost, changed } = keep(row.rows);
  const kept = await keeper;
  const next = changed();
  row.renewable = false;
  await next;
  row.renewable = true;
  expect(lost).toEqual([1]);
  expect(acquired[0]?.lost.reason).toBe('lease_lost');
  expect(kept.lease).toMatchObject({ epoch: 2 });
  expect(kept.lease?.lost.aborted).toBe(false);
  await kept.stop();
});

test('a renewal that hangs loses the lease as well', async () => {
  let epoch = 0;
  const acquire = async () => ({ epoch: ++epoch });
  const { keeper, acquired, changed } = keep({ ...createRow().rows, renew: () => new Promise<boolean>(() => {}), acquire });
  const kept = await keeper;
  await changed();
  expect(acquired.map(({ epoch, lost }) => [epoch, lost.aborted])).toEqual([
    [1, true],
    [2, false],
  ]);
  await kept.stop();
});

test('a stopped host gives its lease back and aborts what it holds', async () => {
  const row = createRow();
  const { keeper, acquired } = keep(row.rows);
  await (await keeper).stop();
  expect(row.released).toEqual([1]);
  expect(acquired[0]?.lost.aborted).toBe(true);
});
