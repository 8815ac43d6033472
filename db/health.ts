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

/** Answers when the database does. */
export async function pingDatabase(sql: Sql): Promise<void> {
  await answered(sql`select 1`);
}
