import { chmod, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import { createTinyModel } from '../../activities/backends/server/tiny-model.js';
import { loadConfig } from '../../config.js';
import { isFinal } from '../../contract/status.js';
import { connect, disconnect, type Sql } from '../../db/connect.js';
import { submitAll } from './ledger.js';
import { harm, schedule } from './nemesis.js';
import { createProduct, type Product } from './product.js';
import { seeded } from './random.js';
import { judge, readTasks, watchEnds } from './verdict.js';

// `npm run chaos -- --seed 1 --tasks 200 --kills 40 [--models]`: submits tasks while every process of an installation is
// killed again and again, then waits for quiet and checks that nothing was lost, done twice or left open.
// The same seed gives the same tasks and the same faults; their timing against each other differs, as it does in life.

const { values } = parseArgs({
  options: {
    seed: { type: 'string', default: '1' },
    tasks: { type: 'string', default: '100' },
    kills: { type: 'string', default: '20' },
    models: { type: 'boolean', default: false },
    keep: { type: 'boolean', default: false },
  },
});
const [seed, tasks, kills] = [Number(values.seed), Number(values.tasks), Number(values.kills)];
const say = (line: string) => console.log(`${new Date().toISOString().slice(11, 19)} ${line}`);
/** Grows with the work: tasks after the last fault run at some 2 a second on two cores. */
const patienceMs = 180_000 + tasks * 2000;

async function untilQuiet(sql: Sql, look: (sql: Sql) => Promise<void>): Promise<void> {
  const deadline = Date.now() + patienceMs;
  for (;;) {
    const open = await readTasks(sql)
      .then((rows) => rows.filter(({ status }) => !isFinal(status)))
      .catch(() => undefined);
    await look(sql).catch(() => undefined);
    if (open?.length === 0) return;
    if (Date.now() > deadline) return say(`${open?.length ?? 'unknown'} tasks are open after ${patienceMs / 1000} s`);
    await delay(1000);
  }
}

/** Ollama's own port is in its process file, once it is there; the first time it may be built. */
async function createModels(product: Product): Promise<readonly string[]> {
  const names = ['chaos-a:latest', 'chaos-b:latest'];
  const deadline = Date.now() + 1_200_000;
  let port: number | null | undefined;
  while ((port = (await product.processes()).get('ollama')?.port) == null) {
    if (Date.now() > deadline) throw new Error('Ollama did not come up within 20 minutes');
    await delay(500);
  }
  for (const name of names) await createTinyModel(`127.0.0.1:${port}`, name);
  return names;
}

async function harmAndJudge(product: Product): Promise<readonly string[]> {
  const watch = watchEnds();
  await product.up();
  const models = values.models ? await createModels(product) : [];
  const faults = schedule(kills, seeded(seed, 'faults'), values.models ? [] : ['ollama', 'host']);
  say(`seed ${seed}: ${tasks} tasks, ${kills} faults, ${product.home}`);
  const spreadMs = faults.reduce((sum, fault) => sum + fault.afterMs + (fault.standsMs ?? 0), 0);
  const [entries, hits] = await Promise.all([submitAll(product, { tasks, models, spreadMs }, seeded(seed, 'tasks')), harm(product, faults, say)]);
  const repeated = entries.reduce((sum, { unanswered }) => sum + unanswered, 0);
  say(`faults: ${[...hits].map(([target, count]) => `${target} ${count}`).join(', ')}; ${repeated} requests repeated; waiting for quiet`);
  await product.up();
  const sql = connect(await product.databaseUrl(), { applicationName: 'orchestra-chaos', connectionsMax: 2 });
  try {
    await untilQuiet(sql, watch.look);
    return [...watch.breaches, ...(await judge(product, sql, entries, loadConfig(process.env).temporal.namespace))];
  } finally {
    await disconnect(sql);
  }
}

async function run(home: string): Promise<readonly string[]> {
  const product = await createProduct(home, { models: values.models });
  const stopped = async () => (await product.down()).map((name) => `${name} outlived the end of orchestra up`);
  let breaches: readonly string[];
  try {
    breaches = await harmAndJudge(product);
  } catch (error) {
    await stopped();
    throw error;
  }
  return [...breaches, ...(await stopped())];
}

const home = await mkdtemp(path.join(tmpdir(), 'orchestra-chaos-'));
await chmod(home, 0o755);
const startedMs = Date.now();
const breaches = await run(home);
for (const breach of breaches) say(`BREACH: ${breach}`);
if (!values.keep && breaches.length === 0) await rm(home, { recursive: true, force: true });
say(
  `seed ${seed}: ${tasks} tasks, ${kills} faults, ${breaches.length} breaches, ${Math.round((Date.now() - startedMs) / 1000)} s${breaches.length > 0 ? `; kept: ${home}` : ''}`,
);
process.exitCode = breaches.length > 0 ? 1 : 0;
