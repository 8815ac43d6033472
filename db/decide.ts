import { failureCodes } from '../contract/failure.js';
import type { Grant } from '../contract/line.js';
import { taskWorkflowId } from '../contract/ids.js';
import type { ResidencyOrder } from '../contract/residency.js';
import type { AskingPolicy } from '../scheduling/learned-order.js';
import type { DecidedBy, Decision, Policy, Snapshot } from '../scheduling/policy.js';
import { defaultMaxWaitsMs, type MaxWaits } from '../scheduling/waiting-order.js';
import { answered, type Sql } from './connect.js';
import { noteDecidedBy, readForAgent } from './decisions.js';
import { type Fetching, keysFetching } from './fetching.js';
import { type GrantRow, grantOf } from './line.js';
import { refuseWaiting, type Transaction } from './residency.js';
import { storedJson } from './stored-json.js';

/** A grant that its workflow has to be told of; the signal's request id is the grant's id, so that a repeat is one event. */
export interface GrantedSignal {
  readonly workflowId: string;
  readonly grant: Grant;
}

export interface Decided {
  readonly granted: readonly GrantedSignal[];
  readonly ordered: readonly ResidencyOrder[];
  /** steps that were told that their model fits nowhere; the outbox has their signals */
  readonly refused: number;
}

const nothing: Decided = { granted: [], ordered: [], refused: 0 };

/** Something that went with a lapsed lease. `granted` rows wait again, `running` rows are void. */
export interface Lost {
  readonly kind: 'granted' | 'running' | 'residency' | 'order';
  readonly host: string;
  readonly row?: string;
  readonly taskId?: string;
  readonly step?: string;
  readonly key?: string;
  readonly order?: string;
}

/** Reads all that a decision may look at, and keeps the decision lock until the transaction ends. @returns null while somebody else has the lock */
export async function readSnapshot(tx: Transaction | Sql, maxWaitsMs: MaxWaits = defaultMaxWaitsMs): Promise<Snapshot | null> {
  const [read] = await tx<
    { seen: { snapshot: Snapshot; fetching: Fetching[] } | null }[]
  >`select decide_see(${maxWaitsMs as number[]}::double precision[]) as seen`;
  if (!read?.seen) return null;
  const { snapshot, fetching } = read.seen;
  const keys = new Set([...snapshot.heads, ...snapshot.soon].flatMap(({ key }) => key ?? []));
  return { ...snapshot, backingOff: [...snapshot.backingOff, ...keysFetching(fetching, keys)] };
}

/**
 * Reads what there is, lets the policy choose, and writes it, in one short transaction under the decision lock. When nothing waits, that is
 * found out by one query without the lock: of most notifications nothing follows.
 * @param maxWaitsMs those of the policy: they say which rows it has to see
 * @returns `busy` when somebody else decides right now
 */
export async function decideOnce(sql: Sql, policy: Policy | AskingPolicy, maxWaitsMs: MaxWaits = defaultMaxWaitsMs): Promise<Decided | 'busy'> {
  const [look] = await answered(sql<{ any: boolean }[]>`select decide_any() as any`);
  if (!look?.any) return nothing;
  const decided = await answered(
    sql.begin(async (tx) => {
      const snapshot = await readSnapshot(tx, maxWaitsMs);
      if (!snapshot) return 'busy';
      const startedMs = performance.now();
      const { grants, orders, keeps, refusals, by } = await chosen(tx, policy, snapshot, maxWaitsMs);
      const policyMs = Math.round(performance.now() - startedMs);
      if ([grants, orders, keeps, refusals].every(({ length }) => length === 0)) return { granted: [], ordered: [], refused: 0 };
      const [written] = await tx<{ decided: { granted: GrantedRow[]; ordered: ResidencyOrder[] } }[]>`
        select decide_write(${storedJson(tx, grants)}, ${storedJson(tx, orders)}, ${policyMs}) as decided`;
      for (const { host, order, key, reason } of keeps) await tx`select order_keep(${order}, ${host}, ${key}, ${reason}, ${policyMs})`;
      let refused = 0;
      for (const { key, reason } of refusals) {
        refused += await refuseWaiting(tx, key, { code: failureCodes.modelOutOfMemory, message: reason, retryable: false }, policyMs);
      }
      if (by !== undefined) await noteDecidedBy(tx, by);
      return { granted: written?.decided.granted ?? [], ordered: written?.decided.ordered ?? [], refused };
    }),
  );
  return decided === 'busy' ? 'busy' : { granted: decided.granted.map(signalOf), ordered: decided.ordered, refused: decided.refused };
}

/** What the policy chooses; only one that asks an agent has to see more than the heads. */
async function chosen(
  tx: Transaction,
  policy: Policy | AskingPolicy,
  snapshot: Snapshot,
  maxWaitsMs: MaxWaits,
): Promise<Decision & { readonly by?: DecidedBy }> {
  if (typeof policy === 'function') return policy(snapshot);
  const seen = await readForAgent(tx, snapshot, maxWaitsMs);
  return policy.decide(seen.snapshot, seen.freedomOf);
}

/**
 * Looks after grants that nobody claims: at 2 s and 6 s they are to be told again (returned), at 15 s they go back to the line for a while.
 * @returns `busy` when somebody else decides right now; then nothing was done
 */
export async function expireGrants(sql: Sql): Promise<GrantedSignal[] | 'busy'> {
  const [row] = await answered(sql<{ again: GrantedRow[] | null }[]>`select line_expire() as again`);
  return row?.again?.map(signalOf) ?? 'busy';
}

/**
 * Takes back what hosts and engines held whose lease is past or who have begun anew.
 * @returns `busy` when somebody else decides right now; then nothing was done
 */
export async function loseHosts(sql: Sql): Promise<Lost[] | 'busy'> {
  const [row] = await answered(sql<{ lost: Lost[] | null }[]>`select line_lose_hosts() as lost`);
  return row?.lost ?? 'busy';
}

/** Milliseconds until the next row that backs off may be granted again; null when none does. */
export async function nextDueMs(sql: Sql): Promise<number | null> {
  const [row] = await answered(sql<{ due: number | null }[]>`
    select ceil(extract(epoch from min(not_before) - clock_timestamp()) * 1000)::double precision as due from line
    where state = 'waiting' and not_before > '-infinity' and not_before < 'infinity' and not_before > clock_timestamp()`);
  return row?.due == null ? null : Math.max(0, row.due); // in SQL, greatest(0, null) is 0
}

interface GrantedRow extends GrantRow {
  readonly task_id: string;
}

function signalOf(row: GrantedRow): GrantedSignal {
  return { workflowId: taskWorkflowId(row.task_id), grant: grantOf(row) };
}
