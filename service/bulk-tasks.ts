import { exactOfLevel } from '../contract/priority.js';
import { parseTaskId } from '../contract/ids.js';
import { isFinal, type TaskStatus } from '../contract/status.js';
import { ProblemError } from '../contract/problems.js';
import type { BulkOutcome, BulkRequestInput, BulkResultView } from '../contract/schemas/many.js';
import { untilAvailable } from '../db/connect.js';
import { cancelTask, retryTask, setPriority } from '../db/moves.js';
import { type BulkMove, matchTasks, readMovable, type TaskFilter } from '../db/tasks.js';
import { type Caller, ownerOf } from './caller.js';
import type { ServiceDeps } from './deps.js';
import { eachAtOnce } from './each-at-once.js';
import { rangeFault } from './range-fault.js';

/** Tasks that are moved at the same time, each in its own transaction, so that a move of the engine never waits for many. */
const atOnce = 8;
/** A task collides with a move of the engine now and then; it is tried again for so long. */
const patienceMs = 5_000;
const effects: ReadonlySet<BulkOutcome> = new Set(['cancelled', 'stopping', 'retried', 'changed', 'would_change']);

/**
 * Cancels, retries or gives another priority to many tasks. Of those named by ids, the ones that the action does not fit are skipped, with the reason;
 * a filter takes only tasks that the action fits, so asking again goes on with those beyond the limit. May be repeated. The outbox tells Temporal.
 * @throws {ProblemError} invalid_request for an empty range of time
 */
export function bulkTasksUseCase({ sql }: ServiceDeps) {
  return async (caller: Caller, request: BulkRequestInput): Promise<BulkResultView> => {
    const owner = ownerOf(caller);
    const { action, dry_run: dryRun } = request;
    const move: BulkMove = action === 'priority' ? { action, exact: exactOfLevel(request.priority ?? 0) } : { action };
    const matched = request.filter === undefined ? idsOf(request.ids ?? []) : await matchTasks(sql, filterOf(request.filter, owner), move, request.limit);
    const make = (id: string): Promise<{ outcome: BulkOutcome }> => {
      switch (move.action) {
        case 'cancel':
          return cancelTask(sql, id, owner);
        case 'retry':
          return retryTask(sql, id, owner);
        case 'priority':
          return setPriority(sql, id, owner, move.exact);
      }
    };
    const really = async (id: string): Promise<BulkOutcome> => {
      if (parseTaskId(id) === undefined) return 'not_found';
      const { outcome } = await untilAvailable(() => make(id), { patienceMs });
      return outcome;
    };
    const known = dryRun
      ? await readMovable(
          sql,
          matched.ids.filter((id) => parseTaskId(id) !== undefined),
          owner,
          move,
        )
      : new Map<string, never>();
    const outcomeOf = dryRun ? (id: string) => Promise.resolve(wouldBe(action, known.get(id))) : really;
    const items = await eachAtOnce(matched.ids, atOnce, async (id) => ({ id, outcome: await outcomeOf(id) }));
    const changed = items.filter(({ outcome }) => effects.has(outcome)).length;
    return { action, dry_run: dryRun, matched: matched.total, changed, skipped: items.length - changed, remaining: matched.total - items.length, items };
  };
}

/** What an action would make of a task; undefined: there is no such task of the caller's. */
function wouldBe(action: BulkRequestInput['action'], task: { readonly status: TaskStatus; readonly movable: boolean } | undefined): BulkOutcome {
  if (task === undefined) return 'not_found';
  if (task.movable) return 'would_change';
  if (action === 'retry') return 'not_retryable';
  return isFinal(task.status) && !(action === 'cancel' && task.status === 'cancelled') ? 'finished' : 'unchanged';
}

/** Each task once, also when it was written twice. */
function idsOf(texts: readonly string[]): { ids: string[]; total: number } {
  const ids = [...new Set(texts.map((text) => parseTaskId(text) ?? text))];
  return { ids, total: ids.length };
}

function filterOf(filter: NonNullable<BulkRequestInput['filter']>, owner: string | null): TaskFilter {
  const time = (text: string | null) => (text === null ? null : new Date(text));
  const [createdAfter, createdBefore] = [time(filter.created_after), time(filter.created_before)];
  const [endedAfter, endedBefore] = [time(filter.ended_after), time(filter.ended_before)];
  for (const [what, after, before] of [
    ['created', createdAfter, createdBefore],
    ['ended', endedAfter, endedBefore],
  ] as const) {
    const fault = rangeFault(`filter.${what}_after`, what, after, before);
    if (fault !== null) throw new ProblemError('invalid_request', fault.message, { errors: [fault] });
  }
  return {
    owner,
    statuses: filter.status,
    templates: filter.template,
    levels: filter.priority,
    types: filter.type,
    userIds: filter.user_id,
    name: filter.name,
    createdAfter,
    createdBefore,
    endedAfter,
    endedBefore,
  };
}
