import type { MetricSeries } from '../contract/metrics.js';
import { answered, type Sql } from './connect.js';
import { storedJson } from './stored-json.js';

/** One GPU as nvidia-smi tells of it; null: it does not say. */
export interface GpuReading {
  readonly index: number;
  readonly name: string;
  /** share, 0 to 1 */
  readonly utilization: number | null;
  readonly usedBytes: number | null;
  readonly totalBytes: number | null;
  readonly celsius: number | null;
  readonly watts: number | null;
}

/** How a machine is; shares are 0 to 1. */
export interface MachineReading {
  readonly cpu: number;
  readonly memory: number;
  readonly memoryBytes: number;
  readonly gpus: readonly GpuReading[];
  /** why no GPU is visible; null when one is */
  readonly gpuNote: string | null;
}

/** Time between two samples of a machine, and how long they are kept. */
export const sampleEveryMs = 10_000;
const samplesKeptHours = 48;
const statesKeptDays = 30;
const probesKeptDays = 400;

const mean = (values: readonly (number | null)[]): number | null => {
  const known = values.filter((value) => value !== null);
  return known.length === 0 ? null : known.reduce((sum, value) => sum + value, 0) / known.length;
};

/**
 * Keeps how a machine is; the first of its processes in each ten seconds counts. May be repeated.
 * @param host of which the memory of models is taken along; null: the process is none
 */
export async function keepSample(sql: Sql, machine: string, host: string | null, reading: MachineReading): Promise<void> {
  const { cpu, memory, memoryBytes, gpus, gpuNote } = reading;
  const memories = gpus.map(({ usedBytes, totalBytes }) => (usedBytes === null || !totalBytes ? null : usedBytes / totalBytes));
  await answered(sql`
    insert into machine_samples as s (machine, at, cpu, memory, memory_bytes, models_bytes, gpu, gpu_memory, gpus, gpu_note)
    values (${machine}, date_bin(${sampleEveryMs} * interval '1 millisecond', clock_timestamp(), 'epoch'), ${cpu}, ${memory}, ${memoryBytes},
      case when ${host}::text is not null then (select coalesce(sum(memory_bytes), 0) from models where host = ${host}::text and loaded) end,
      ${mean(gpus.map(({ utilization }) => utilization))}, ${mean(memories)}, ${storedJson(sql, gpus)}, ${gpuNote})
    on conflict (machine, at) do update set models_bytes = coalesce(s.models_bytes, excluded.models_bytes)`);
}

/** How the whole was at a collection. */
export interface SystemState {
  /** counters as they stood, by name and, where the collection needs it, label */
  readonly counters: Readonly<Record<string, number>>;
  readonly queued: number;
  readonly running: number;
  readonly waiting: number;
  readonly engines: number;
  readonly hosts: number;
  readonly hostsReady: number;
}

/** Takes the right to collect the present interval. @returns null when somebody has it; else the state of the collection before, if there was one */
export async function beginCollection(sql: Sql, intervalMs: number): Promise<{ at: Date; before: { at: Date; state: SystemState } | null } | null> {
  const [taken] = await answered(sql<{ at: Date }[]>`
    insert into system_state (at) values (date_bin(${intervalMs} * interval '1 millisecond', clock_timestamp(), 'epoch')) on conflict do nothing returning at`);
  if (taken === undefined) return null;
  const [before] = await answered(sql<{ at: Date; state: SystemState }[]>`
    select at, state from system_state where at < ${taken.at} and at > ${taken.at}::timestamptz - interval '1 hour' and state is not null order by at desc limit 1`);
  return { at: taken.at, before: before ?? null };
}

/** What machines, hosts and predictions were like since a moment. */
export interface SeenSince {
  readonly engines: number;
  readonly hosts: number;
  readonly hostsReady: number;
  /** seconds that hosts spent on loading models, together */
  readonly loadingSeconds: number;
  /** means over machines */
  readonly cpu: number | null;
  readonly memory: number | null;
  readonly gpu: number | null;
  readonly gpuMemory: number | null;
  /** predictions that were judged since the beginning, and those that held */
  readonly judged: number;
  readonly kept: number;
}

/** Reads. */
export async function readSeenSince(sql: Sql, since: Date, until: Date): Promise<SeenSince> {
  const [row] = await answered(sql<SeenSince[]>`
    select (select count(*) from engines where lease_until > now())::integer as engines, h.hosts, h.ready as "hostsReady",
      (select coalesce(sum(extract(epoch from least(coalesce(ended_at, ${until}), ${until}) - greatest(began_at, ${since}))), 0)::float8 from residency_spans
        where state = 'loading' and began_at < ${until} and (ended_at is null or ended_at > ${since})) as "loadingSeconds",
      m.*, f.*
    from (select count(*)::integer as hosts, (count(*) filter (where ready))::integer as ready from hosts where lease_until > now()) h,
      (select avg(cpu)::float8 as cpu, avg(memory)::float8 as memory, avg(gpu)::float8 as gpu, avg(gpu_memory)::float8 as "gpuMemory" from machine_samples
        where at >= ${since} and at < ${until}) m,
      (select coalesce(sum(judged), 0)::float8 as judged, coalesce(sum(kept), 0)::float8 as kept from forecast_stretch) f`);
  if (row === undefined) throw new Error('PostgreSQL returned no row');
  return row;
}

/** Ends a collection: keeps its samples and the state, and removes what is older than it is kept. */
export async function endCollection(
  sql: Sql,
  collected: { readonly at: Date; readonly state: SystemState; readonly samples: readonly MetricSeries[]; readonly keptDays: number },
): Promise<void> {
  const { at, state, samples, keptDays } = collected;
  await answered(
    sql.begin(async (tx) => {
      await tx`insert into performance_metrics (name, labels, value, at)
        select s ->> 'name', s -> 'labels', (s ->> 'value')::float8, ${at} from jsonb_array_elements(${storedJson(tx, samples)}) s`;
      await tx`update system_state set state = ${storedJson(tx, state)} where at = ${at}`;
      await tx`delete from machine_samples where at < now() - ${samplesKeptHours} * interval '1 hour'`;
      await tx`delete from performance_metrics where at < now() - ${keptDays} * interval '1 day'`;
      await tx`delete from system_state where at < now() - ${statesKeptDays} * interval '1 day'`;
      await tx`delete from alerts where cleared_at < now() - ${keptDays} * interval '1 day'`;
      await tx`delete from availability_probes where minute < now() - ${probesKeptDays} * interval '1 day'`;
    }),
  );
}

/** Notes whether a part did its work in this minute; one process that did it is enough. */
export async function keepProbe(sql: Sql, part: string, ok: boolean): Promise<void> {
  await answered(sql`
    insert into availability_probes as p (part, minute, ok) values (${part}, date_trunc('minute', clock_timestamp()), ${ok})
    on conflict (part, minute) do update set ok = p.ok or excluded.ok`);
}

/** Whether the lease of an engine lasts. Reads. */
export async function engineLives(sql: Sql, id: string): Promise<boolean> {
  const [row] = await answered(sql<{ live: boolean }[]>`select exists (select 1 from engines where id = ${id} and lease_until > now()) as live`);
  return row?.live === true;
}
