import { parseTaskId } from '../contract/ids.js';
import { needOfKey, type ResidencyKey } from '../contract/queues.js';
import type { DecisionKind, DecisionListView, DecisionView } from '../contract/schemas/decision.js';
import { type DecisionRow, listDecisions } from '../db/decisions.js';
import { type Caller, ownerOf } from './caller.js';
import type { ServiceDeps } from './deps.js';
import { nameOfModel, type NamesOfModels } from './model-named.js';
import { orderReason } from './order-reason.js';
import { cursorOf, positionOf } from './page-cursor.js';

export interface DecisionsRequest {
  readonly taskId: string | null;
  /** names or aliases; values of one filter are alternatives, an empty one lets everything pass */
  readonly models: readonly string[];
  readonly hosts: readonly string[];
  readonly kinds: readonly DecisionKind[];
  readonly limit: number;
  readonly cursor: string | null;
}

/**
 * One page of what the scheduler decided, newest first. A user sees the grants of their own tasks, and what was decided for hosts and models; whose step that
 * was for only where it is theirs.
 * @throws {ProblemError} invalid_request for a cursor that is not one of this list
 */
export function listDecisionsUseCase({ sql }: ServiceDeps, deployment: NamesOfModels) {
  return async (caller: Caller, { limit, cursor, ...request }: DecisionsRequest): Promise<DecisionListView> => {
    const owner = ownerOf(caller);
    const scope = JSON.stringify(['decisions', caller.userId, caller.role, request]);
    const after = cursor === null ? null : positionOf(cursor, scope);
    const taskId = request.taskId === null ? null : parseTaskId(request.taskId);
    if (taskId === undefined) return { items: [], next_cursor: null }; // no task has such an id
    const filter = { ...request, taskId, owner, models: request.models.map((text) => nameOfModel(deployment, text)) };
    const { rows, end } = await listDecisions(sql, filter, { after, limit });
    return { items: rows.map((row) => view(row, caller.role === 'admin')), next_cursor: end === null ? null : cursorOf(end, scope) };
  };
}

const nameOf = (key: ResidencyKey): string => needOfKey(key)?.name ?? key;

/** @param withName whether the caller may see who asked for a change of models */
function view(row: DecisionRow, withName: boolean): DecisionView {
  return {
    id: row.id,
    at: row.createdAt.toISOString(),
    kind: row.kind,
    reason: orderReason(row.reason, row.requestedBy, withName),
    task_id: row.taskId,
    step: row.step,
    model: row.key === null ? row.pull : nameOf(row.key),
    unload: (row.unload ?? []).map(nameOf),
    host: row.host,
    priority: row.level,
    exact: row.exact,
    waited_ms: row.waitedMs,
    terms: (row.terms ?? []).map(({ key, ...terms }) => ({ model: nameOf(key), ...terms })),
    algorithm: row.kind === 'deadlock' || row.requestedBy !== null ? null : (row.algorithm ?? 'priority_affinity'),
    model_version: row.modelVersion,
    fallback: row.instead,
    execution_time_ms: row.tookMs,
  };
}
