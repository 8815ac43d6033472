import { createTinyModel, tinyShape } from '../../../activities/backends/server/tiny-model.js';
import { residencyKey } from '../../../contract/queues.js';
import { type Installation, startInstallation } from '../installation.js';
import { leftBehind } from '../left-behind.js';
import { type MainProcess, startMain } from '../main-process.js';
import { startOwnOllama } from '../own-ollama.js';
import { type OwnPostgres, startOwnPostgres } from '../own-postgres.js';
import { createTestDatabase, eventually, postgresAddress, temporalAddress } from '../servers.js';
import { createEffects, type Effects, type EffectsProxy, type Moment } from './effects.js';
import { startOllamaEffects } from './ollama-effects.js';
import { startSqlEffects } from './sql-effects.js';
import { startTemporalEffects } from './temporal-effects.js';

/**
 * What is done at a moment of the engine or of the host: the process is killed and started again, Ollama is, PostgreSQL is while the process writes, or all
 * connections of the process to PostgreSQL break.
 */
export type Blow =
  | 'engine killed'
  | 'host killed'
  | 'ollama killed'
  | 'PostgreSQL killed under the engine'
  | 'PostgreSQL killed under the host'
  | 'engine cut from PostgreSQL'
  | 'host cut from PostgreSQL';

export interface Outcome {
  /** whether the moment came */
  readonly struck: boolean;
  /** effects of the process whose moment it was */
  readonly seen: readonly string[];
  /** a sentence for each promise that was broken; empty when all is well */
  readonly breaches: readonly string[];
}

/** An installation whose engine and host are processes of their own, and reach the servers through proxies that count what they change. */
export interface StruckInstallation {
  /** Runs one set of tasks from their submission to rest, with a blow at the moment. One at a time; null: nobody is struck. */
  run(blow: Blow, moment: Moment | null): Promise<Outcome>;
  stop(): Promise<void>;
}

const models = { b: 'struck-b:latest', a: 'struck-a:latest' };
/** Each goes before the next: 10 and 9 wait for no quantum of a model that lower ones wait for, and 5 and 4 use the one that is loaded then. */
const tasks = [
  { name: 'first', template: 'ask', model: models.b, priority: 10 },
  { name: 'second', template: 'ask', model: models.a, priority: 9 },
  { name: 'third', template: 'ask', model: models.b, priority: 5 },
  { name: 'fourth', template: 'ask', model: models.b, priority: 4 },
  { name: 'plain', template: 'plain', model: null, priority: 5 },
];
const templates = {
  ask: [
    'name: ask',
    'description: Ask a model',
    'parameters:',
    '  - { name: model, type: string, required: true }',
    'steps:',
    '  - type: ollama_generate',
    '    model: "{{model}}"',
    '    prompt: hello',
    '    options: { num_ctx: 512, num_predict: 4 }',
    '    retry: { max_attempts: 5, initial_interval_seconds: 0.2, max_interval_seconds: 0.5 }',
  ].join('\n'),
  plain: ['name: plain', 'description: No model', 'steps:', '  - { type: format_output, format: text, data: done }'].join('\n'),
};
/** A killed process is missed by Temporal after 20 s, and by the line after 15 s; twice both, on a loaded machine. */
const patienceMs = 120_000;

/** @param own with a PostgreSQL of its own, which may be killed */
export async function startStruckInstallation(hostId: string, own: { readonly postgres?: boolean } = {}): Promise<StruckInstallation> {
  const postgres = own.postgres === true ? await startOwnPostgres() : null;
  const effects = { engine: createEffects(), host: createEffects() };
  const ollama = await startOwnOllama();
  for (const [index, name] of Object.values(models).entries()) await createTinyModel(ollama.url, name, { ...tinyShape, seed: index + 1 });
  const server = await startOllamaEffects(ollama.url, effects.host);
  const proxies = { engine: await proxiesOf(effects.engine, postgres), host: await proxiesOf(effects.host, postgres) };
  const database = await createTestDatabase(postgres?.adminUrl);
  const orchestra: Installation = await startInstallation({ templates, engine: false, database });
  const { sql } = orchestra;
  const start = (name: 'engine' | 'host'): MainProcess => {
    const address = new URL(database.url);
    address.port = String(proxies[name].sql.port);
    return startMain(name, orchestra.config.home, {
      DATABASE_URL: address.href,
      TEMPORAL_ADDRESS: `127.0.0.1:${proxies[name].temporal.port}`,
      TEMPORAL_NAMESPACE: orchestra.config.temporal.namespace,
      OLLAMA_HOST: `http://127.0.0.1:${server.port}`,
      HOST_ID: hostId,
      MODEL_MAX_LOADED: '1',
      MAX_WORKERS: '1',
    });
  };
  const mains = { engine: start('engine'), host: start('host') };
  await Promise.all([mains.engine.ready(), mains.host.ready()]);
  await eventually(async () => (await sql`select 1 from hosts where ready`).length === 1, { timeoutMs: 60_000 });

  async function killed(name: 'engine' | 'host'): Promise<void> {
    const gone = mains[name].kill();
    proxies[name].sql.cut();
    proxies[name].temporal.cut();
    if (name === 'host') server.cut();
    await gone;
    // As if the rest of its lease had passed.
    if (name === 'engine') await sql`update engines set lease_until = clock_timestamp()`;
    else await sql`update hosts set lease_until = clock_timestamp()`;
    mains[name] = start(name);
    await mains[name].ready();
  }

  async function ollamaKilled(): Promise<void> {
    const gone = ollama.kill();
    server.cut();
    server.forget();
    await gone;
    await ollama.start();
  }

  async function postgresKilled(): Promise<void> {
    if (postgres === null) throw new Error('this installation has no PostgreSQL of its own');
    const gone = postgres.kill();
    for (const { sql: connections } of Object.values(proxies)) connections.cut();
    await gone;
    await postgres.start();
  }

  /** Strikes at once; what it returns is over when the part is there again. */
  function strike(blow: Blow): Promise<void> {
    switch (blow) {
      case 'engine killed':
        return killed('engine');
      case 'host killed':
        return killed('host');
      case 'ollama killed':
        return ollamaKilled();
      case 'PostgreSQL killed under the engine':
      case 'PostgreSQL killed under the host':
        return postgresKilled();
      case 'engine cut from PostgreSQL':
        proxies.engine.sql.cut();
        return Promise.resolve();
      case 'host cut from PostgreSQL':
        proxies.host.sql.cut();
        return Promise.resolve();
    }
  }

  async function run(blow: Blow, moment: Moment | null): Promise<Outcome> {
    const watched: Effects = blow.includes('engine') ? effects.engine : effects.host;
    const before = { resident: server.resident(), loads: server.loads.length };
    let restored: Promise<void> = Promise.resolve();
    await sql`insert into queue_pauses (scope) values ('queue')`;
    watched.watch(moment, () => {
      restored = strike(blow);
      restored.catch(() => {}); // looked at below
    });
    const ids = new Map<string, string>();
    for (const { name, template, model, priority } of tasks.toReversed())
      ids.set((await orchestra.submit(template, model === null ? {} : { model }, { priority })).id, name);
    const all = [...ids.keys()];
    await eventually(async () => (await sql`select 1 from line where state = 'waiting' and task_id = any(${all})`).length === all.length, {
      timeoutMs: patienceMs,
    });
    await sql`delete from queue_pauses`;
    await sql`select pg_notify('line', '')`;

    const breaches: string[] = [];
    for (const [id, name] of ids) {
      const { status, error } = await orchestra.finished(id, patienceMs).catch(async (cause: unknown) => {
        throw new Error(`${name} does not end, struck ${blow} ${JSON.stringify(moment)}: ${await standing(all)}`, { cause });
      });
      if (status !== 'completed') breaches.push(`${name} is ${status}: ${JSON.stringify(error)}`);
    }
    await restored;
    const { struck, seen } = watched;
    watched.watch(null, () => {});
    breaches.push(...(await unrest()), ...(await startedInOrder(ids, before.resident)), ...(await countLoads(all, before, blow, struck)));
    return { struck, seen, breaches };
  }

  /** @returns how everything stands that a step may wait for, and what the processes have said last */
  async function standing(ids: readonly string[]): Promise<string> {
    const [seen] = await sql<{ seen: object }[]>`
      select jsonb_build_object(
        'line', (select jsonb_agg(to_jsonb(l) - 'run_id' order by id) from line l where task_id = any(${ids}) or state in ('waiting', 'granted', 'running')),
        'engines', (select jsonb_agg(jsonb_build_object('id', id, 'slots', slots, 'lease', lease_until - clock_timestamp())) from engines),
        'hosts', (select jsonb_agg(to_jsonb(h) || jsonb_build_object('lease', lease_until - clock_timestamp())) from hosts h),
        'residency', (select jsonb_agg(to_jsonb(r)) from residency r),
        'orders', (select jsonb_agg(to_jsonb(o)) from residency_orders o where state = 'open'),
        'outbox', (select jsonb_agg(to_jsonb(o)) from outbox o),
        'pauses', (select jsonb_agg(to_jsonb(p)) from queue_pauses p),
        'sessions', (select jsonb_agg(jsonb_build_object('name', application_name, 'state', state, 'xid', backend_xid, 'wait', wait_event, 'for', clock_timestamp() - state_change, 'query', left(query, 120)))
          from pg_stat_activity where datname = current_database()),
        'locks', (select jsonb_agg(jsonb_build_object('objid', objid, 'granted', granted, 'pid', pid)) from pg_locks where locktype = 'advisory')) as seen`;
    return `${JSON.stringify(seen?.seen)}\nengine: ${mains.engine.said()}\nhost: ${mains.host.said()}`;
  }

  /** @returns what is still held or broken after a while in which it may end */
  async function unrest(): Promise<string[]> {
    let left: string[] = [];
    await eventually(
      async () => {
        // A workspace whose process was killed is swept every five minutes, and by an engine that starts.
        left = (await leftBehind(sql, orchestra.config.files.workspacesRoot)).filter((each) => !each.startsWith('the workspace of '));
        for (const { id } of await sql`select id from residency_orders where state = 'open'`) left.push(`the order ${id} is open`);
        return left.length === 0;
      },
      { timeoutMs: 40_000 },
    ).catch(() => undefined);
    return left;
  }

  async function startedInOrder(ids: ReadonlyMap<string, string>, resident: string | null): Promise<string[]> {
    const events = await sql<{ task: string; kind: string; cause: string | null; backingOff: string[]; left: string[] }[]>`
      select e.task_id as task, e.kind, e.data ->> 'cause' as cause, array(
        select l.task_id from residency_orders o join line l on l.key = o.load_key
        where o.state = 'failed' and o.error ->> 'code' <> 'host_lost' and o.ended_at < e.at and o.created_at > t.created_at and l.task_id = any(${[...ids.keys()]})) as "backingOff",
        array(select l.task_id from line l where l.task_id = any(${[...ids.keys()]}) and l.state = 'void' and l.granted_at is not null and l.started_at is null and l.ended_at < e.at) as "left"
      from task_events e join tasks t on t.id = e.task_id where e.task_id = any(${[...ids.keys()]}) and e.kind in ('step_started', 'grant_lost') order by e.id`;
    const wanted = tasks.filter(({ model }) => model !== null).map(({ name }) => name);
    const started = new Set<string>();
    // A model in memory may use its quantum for a 9 before another one is loaded for a 10.
    const putOff = new Set(resident === models.a ? ['first'] : []);
    const breaches: string[] = [];
    for (const { task, kind, cause, backingOff, left } of events) {
      const name = ids.get(task) ?? '';
      if (kind === 'grant_lost') {
        // Nobody had answered for 15 s, so the line goes on without it for a while.
        if (cause === 'unanswered') putOff.add(name);
      } else if (!started.has(name) && wanted.includes(name)) {
        // So it does without those whose model could not be loaded just now.
        for (const each of backingOff) putOff.add(ids.get(each) ?? '');
        // Nor does it wait for one whose new grant cannot be answered, since Temporal has not missed its former process yet.
        for (const each of left) putOff.add(ids.get(each) ?? '');
        const passed = wanted.slice(0, wanted.indexOf(name)).filter((each) => !started.has(each) && !putOff.has(each));
        if (passed.length > 0) breaches.push(`${name} started before ${passed.join(', ')}`);
        started.add(name);
      }
    }
    return breaches;
  }

  /**
   * A load is due for each change of model from one try to the next. Two more are due to a host or an Ollama that is killed: what it held or was loading may be gone,
   * and the line may go on with the next model before the step that goes first is back, or its model may be loaded again (2 s later); then that one is loaded for
   * nothing. That one is due too when a try went with PostgreSQL. Two more are due to a grant that nobody answered, since the line goes on without it, and comes back
   * to its model.
   */
  async function countLoads(all: readonly string[], before: { resident: string | null; loads: number }, blow: Blow, struck: boolean): Promise<string[]> {
    const tries = await sql<{ task: string; key: string }[]>`
      select task_id as task, data ->> 'key' as key from task_events where task_id = any(${all}) and kind = 'step_started' and data ->> 'key' is not null order by id`;
    let holds = before.resident === null ? null : residencyKey({ name: before.resident, numCtx: 512 });
    const unanswered = await sql`select 1 from task_events where task_id = any(${all}) and kind = 'grant_lost' and data ->> 'cause' = 'unanswered'`;
    let due = 2 * unanswered.length;
    if (struck && (blow === 'host killed' || blow === 'ollama killed')) due += 2;
    if (struck && blow.includes('PostgreSQL') && new Set(tries.map(({ task }) => task)).size < tries.length) due += 1;
    for (const { key } of tries) {
      if (key !== holds) due += 1;
      holds = key;
    }
    const loads = server.loads.slice(before.loads);
    if (loads.length <= due) return [];
    const [seen] = await sql<{ orders: object }[]>`
      select jsonb_agg(to_jsonb(o) order by o.created_at) as orders from residency_orders o where o.created_at > (select min(created_at) from tasks where id = any(${all}))`;
    const tried = tries.map(({ key }) => key).join(', ');
    return [`${loads.length} loads (${loads.join(', ')}) for ${tried} after ${before.resident}; orders ${JSON.stringify(seen?.orders)}`];
  }

  return {
    run,
    async stop() {
      await Promise.all([mains.engine.stop(), mains.host.stop()]);
      await orchestra.stop();
      for (const { sql: database, temporal } of Object.values(proxies)) await Promise.all([database.close(), temporal.close()]);
      await server.close();
      await ollama.stop();
      await postgres?.stop();
    },
  };
}

async function proxiesOf(effects: Effects, own: OwnPostgres | null): Promise<{ readonly sql: EffectsProxy; readonly temporal: EffectsProxy }> {
  return {
    sql: await startSqlEffects(own === null ? postgresAddress() : { host: '127.0.0.1', port: own.port }, effects),
    temporal: await startTemporalEffects(temporalAddress(), effects),
  };
}
