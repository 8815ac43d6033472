import { monitorEventLoopDelay } from 'node:perf_hooks';
import { setTimeout as delay } from 'node:timers/promises';
import { pino } from 'pino';
import type { Claim } from '../contract/line.js';
import type { ResidencyOrder } from '../contract/residency.js';
import { connect } from '../db/connect.js';
import { decideOnce } from '../db/decide.js';
import { acquireHost, registerEngine, renewEngine, renewHost, setHostReady } from '../db/leases.js';
import { createLine } from '../db/line.js';
import { beginLoad, drainKeys, removeDrained, serveKey } from '../db/residency.js';
import { createForecaster, forecastEveryMs } from '../engine/forecast.js';
import { startLoop } from '../loop.js';
import { priorityAffinity } from '../scheduling/priority-affinity.js';
import { addWaiting } from './backlog-line.js';

/** What the process measured, as it tells its parent when it is asked. */
export interface EngineMeasures {
  /** milliseconds of each decision that gave grants or orders, from its begin to its commit */
  readonly decisionsMs: readonly number[];
  /** of each forecast, from its begin to its commit */
  readonly forecastsMs: readonly number[];
  /** the longest times for which the loop of the process did nothing else */
  readonly heldUpMs: { readonly p99: number; readonly max: number };
}

// The decide loop and the forecast loop of an engine, on a line whose steps end at once: it plays the host and the workflows too, so that nothing but these is
// measured. Ten steps a second end, and as many come.
const [url = ''] = process.argv.slice(2);
const slots = 4;
const sql = connect(url, { applicationName: 'bench-engine', connectionsMax: 4 });
const log = pino({ level: 'error' });
const policy = priorityAffinity();
const line = createLine(sql);
await registerEngine(sql, { id: 'bench', slots });
const epoch = await acquireHost(sql, { host: 'bench', address: 'http://127.0.0.1:1', parallel: slots });
await setHostReady(sql, 'bench', epoch, true, {}, { modelsMax: 1, roomBytes: null, budgetBytes: null, spillBytes: 0 });

const decisionsMs: number[] = [];
const forecastsMs: number[] = [];
const forecaster = createForecaster({ sql, log });
const version = async () => (await sql<{ version: string }[]>`select version from forecasts`)[0]?.version;
startLoop({
  name: 'forecast',
  everyMs: forecastEveryMs,
  async run() {
    const before = await version();
    const startedMs = performance.now();
    const again = await forecaster.run();
    const tookMs = performance.now() - startedMs;
    if ((await version()) !== before) forecastsMs.push(tookMs);
    return again;
  },
  log,
});
startLoop({
  name: 'leases',
  everyMs: 2_000,
  async run() {
    await Promise.all([renewEngine(sql, 'bench'), renewHost(sql, 'bench', epoch)]);
    return undefined;
  },
  log,
});

const delays = monitorEventLoopDelay({ resolution: 1 });
delays.enable();
process.on('message', () => {
  const measures: EngineMeasures = { decisionsMs, forecastsMs, heldUpMs: { p99: delays.percentile(99) / 1e6, max: delays.max / 1e6 } };
  process.send?.(measures);
});

const running: Claim[] = [];
for (;;) {
  const ended = running.shift();
  if (ended !== undefined) {
    await line.finish(ended, { text: 'done' }, {});
    await addWaiting(sql, 1);
  }
  const startedMs = performance.now();
  const decided = await decideOnce(sql, policy);
  if (decided !== 'busy' && decided.granted.length + decided.ordered.length > 0) {
    decisionsMs.push(performance.now() - startedMs);
    for (const { grant } of decided.granted) {
      const claim = await line.claim(grant, null);
      if (claim !== null) running.push(claim);
    }
    for (const order of decided.ordered) await carryOut(order);
  }
  forecaster.changed();
  await delay(100);
}

/** What a host does with an order, without a model server. */
async function carryOut(order: ResidencyOrder): Promise<void> {
  for (const claim of running.splice(0)) await line.finish(claim, { text: 'done' }, {});
  const id = { orderId: order.id, host: order.host, hostEpoch: order.hostEpoch };
  await drainKeys(sql, id, order.unload);
  for (const key of order.unload) await removeDrained(sql, id, key);
  if (order.load === null) return;
  await beginLoad(sql, id, order.load.key, order.load.model);
  await serveKey(sql, id, order.load.key, { digest: 'sha256:0', memoryBytes: 4e9, vramBytes: 4e9, loadMs: 5_000 });
}
