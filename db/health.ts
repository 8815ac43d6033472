import { answered, type Sql } from './connect.js';

/** What the database knows of the other parts. */
export interface PartsSeen {
  readonly engines: number;
  readonly generalSlots: number;
  readonly hosts: readonly { readonly id: string; readonly ready: boolean; readonly live: boolean; readonly address: string; readonly why: string | null }[];
}

/** Engines with a live lease, and every host. Reads. */
export async function readParts(sql: Sql): Promise<PartsSeen> {
  const [engines] = await answered(sql<{ engines: number; slots: number }[]>`
    select count(*)::integer as engines, coalesce(sum(slots), 0)::integer as slots from engines where lease_until > now()`);
  const hosts = await answered(sql<PartsSeen['hosts'][number][]>`
    select id, ready, lease_until > now() as live, address, info ->> 'why' as why from hosts order by id`);
  return { engines: engines?.engines ?? 0, generalSlots: engines?.slots ?? 0, hosts };
}

/** Answers when the database does. */
export async function pingDatabase(sql: Sql): Promise<void> {
  await answered(sql`select 1`);
}
