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
  /** why it takes no work */
  readonly why: string | null;
}

/** Engines with a live lease, and every host. Reads. */
export async function readParts(sql: Sql): Promise<PartsSeen> {
  const [engines] = await answered(sql<{ engines: number; slots: number; fences: string[] | null }[]>`
    select count(*)::integer as engines, coalesce(sum(slots), 0)::integer as slots, array_agg(distinct info ->> 'sandbox') as fences from engines where lease_until > now()`);
  const hosts = await answered(sql<HostSeen[]>`
    select id, ready, lease_until > now() as live, address, info ->> 'version' as version, info ->> 'warning' as warning, info ->> 'why' as why from hosts order by id`);
  return { engines: engines?.engines ?? 0, generalSlots: engines?.slots ?? 0, fences: (engines?.fences ?? []).filter((fence) => fence !== null), hosts };
}

/** Answers when the database does. */
export async function pingDatabase(sql: Sql): Promise<void> {
  await answered(sql`select 1`);
}
