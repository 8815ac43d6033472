import { answered, type Sql } from './connect.js';

/** What the database knows of the other parts. */
export interface PartsSeen {
  readonly engines: number;
  readonly generalSlots: number;
  /** how engines fence scripts: each level once, `refused` where none is to be had */
  readonly fences: readonly string[];
  readonly hosts: readonly HostSeen[];
}

/** A host as it describes itself. */
export interface HostSeen {
  readonly id: string;
  readonly ready: boolean;
  readonly live: boolean;
  /** of its model server */
  readonly address: string;
  readonly version: string | null;
  /** what a person should know of that version */
  readonly warning: string | null;
  /** why it takes no work, as it says itself */
  readonly why: string | null;
  /** when its lease ended; null: it lives */
  readonly silentSince: Date | null;
  /** concurrent inferences of one model */
  readonly parallel: number;
  readonly modelsMax: number;
  /** bytes for models: without any other program, and now; null: not limited by bytes */
  readonly budgetBytes: number | null;
  readonly roomBytes: number | null;
}

/** A host that was not heard of for so long is gone for good. */
const forgottenAfterHours = 24;
/** engines, and hosts, that a list shows at most */
const shownMax = 200;

/** Engines with a live lease, and every host that was heard of within a day. Reads. */
export async function readParts(sql: Sql): Promise<PartsSeen> {
  const [engines] = await answered(sql<{ engines: number; slots: number; fences: string[] | null }[]>`
    select count(*)::integer as engines, coalesce(sum(slots), 0)::integer as slots, array_agg(distinct info ->> 'sandbox') as fences from engines where lease_until > now()`);
  const hosts = await answered(sql<HostSeen[]>`
    select id, ready, lease_until > now() as live, address, info ->> 'version' as version, info ->> 'warning' as warning, info ->> 'why' as why,
      case when lease_until <= now() then lease_until end as "silentSince", parallel, models_max as "modelsMax", budget_bytes::float8 as "budgetBytes", room_bytes::float8 as "roomBytes"
    from hosts where lease_until > now() - ${forgottenAfterHours} * interval '1 hour' order by id`);
  return { engines: engines?.engines ?? 0, generalSlots: engines?.slots ?? 0, fences: (engines?.fences ?? []).filter((fence) => fence !== null), hosts };
}

/** A lease that lasts, or ended within a day. */
export interface LeaseSeen {
  readonly id: string;
  readonly leaseUntil: Date;
  readonly live: boolean;
}

/** Engines and hosts with their leases, and how much waits. Reads. */
export async function readSystem(sql: Sql): Promise<{
  readonly databaseVersion: string;
  readonly engines: readonly (LeaseSeen & { readonly slots: number; readonly sandbox: string | null })[];
  readonly hosts: readonly (LeaseSeen & { readonly address: string; readonly ready: boolean; readonly version: string | null })[];
  readonly counts: { readonly queued: number; readonly running: number; readonly waiting: number };
}> {
  const [engines, hosts, [row]] = await Promise.all([
    answered(sql<(LeaseSeen & { slots: number; sandbox: string | null })[]>`
      select id, slots, info ->> 'sandbox' as sandbox, lease_until as "leaseUntil", lease_until > now() as live from engines
      where lease_until > now() - ${forgottenAfterHours} * interval '1 hour' order by live desc, id limit ${shownMax}`),
    answered(sql<(LeaseSeen & { address: string; ready: boolean; version: string | null })[]>`
      select id, address, ready, info ->> 'version' as version, lease_until as "leaseUntil", lease_until > now() as live from hosts
      where lease_until > now() - ${forgottenAfterHours} * interval '1 hour' order by id limit ${shownMax}`),
    answered(sql<{ databaseVersion: string; queued: number; running: number; waiting: number }[]>`
      select current_setting('server_version') as "databaseVersion", (select count(*) from tasks where status = 'queued')::integer as queued,
        (select count(*) from tasks where status = 'running')::integer as running, (select count(*) from line where state = 'waiting')::integer as waiting`),
  ]);
  if (row === undefined) throw new Error('PostgreSQL returned no row');
  const { databaseVersion, ...counts } = row;
  return { databaseVersion, engines, hosts, counts };
}

/** What a banner needs to know. */
export interface WaitSeen {
  /** steps in the line, without a model and with one */
  readonly general: number;
  readonly model: number;
  readonly engines: number;
  readonly hosts: number;
  readonly hostsReady: number;
  /** why hosts that live take no work, each reason once, as far as they tell one */
  readonly whyNot: readonly string[];
  /** messages of the alerts that hold and ask for somebody */
  readonly alerts: readonly string[];
}

/** An alert on which nobody has to act: predictions adapt by themselves. It stands on the page System alone. */
const informs = 'low_accuracy';

/** Whether what waits has somebody to do it, and what is alerted of. Reads. */
export async function readWaits(sql: Sql): Promise<WaitSeen> {
  const [row] = await answered(sql<WaitSeen[]>`
    select (select count(*) from line where state = 'waiting' and pool = 'general')::integer as general,
      (select count(*) from line where state = 'waiting' and pool = 'model')::integer as model,
      (select count(*) from engines where lease_until > now())::integer as engines,
      (select count(*) from hosts where lease_until > now() - ${forgottenAfterHours} * interval '1 hour')::integer as hosts,
      (select count(*) from hosts where lease_until > now() and ready)::integer as "hostsReady",
      (select coalesce(array_agg(distinct info ->> 'why') filter (where info ->> 'why' is not null), '{}') from hosts where lease_until > now() and not ready) as "whyNot",
      (select coalesce(array_agg(message order by fired_at), '{}') from alerts where cleared_at is null and rule <> ${informs}) as alerts`);
  if (row === undefined) throw new Error('PostgreSQL returned no row');
  return row;
}

/** Answers when the database does. */
export async function pingDatabase(sql: Sql): Promise<void> {
  await answered(sql`select 1`);
}
