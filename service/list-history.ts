import type { ReportRowView } from '../contract/schemas/many.js';
import { readResults, type ReportOrder, reportPage, type TaskFilter } from '../db/reports.js';
import { countBeside } from '../db/tasks.js';
import { type Caller, ownerOf } from './caller.js';
import type { ServiceDeps } from './deps.js';
import { cursorOf, positionOf } from './page-cursor.js';

export interface HistoryRequest {
  readonly filter: Omit<TaskFilter, 'owner'>;
  readonly order: ReportOrder;
  readonly limit: number;
  readonly cursor: string | null;
}

export interface HistoryPage {
  /** a line of the report, and the beginning of what the task gave */
  readonly items: readonly (ReportRowView & { readonly result: string | null })[];
  readonly nextCursor: string | null;
  readonly total: number;
}

/** One page of the caller's tasks as the report has them, the latest first. @throws {ProblemError} invalid_request for a cursor that is not one of this list */
export function listHistoryUseCase({ sql }: ServiceDeps) {
  return async (caller: Caller, { filter, order, limit, cursor }: HistoryRequest): Promise<HistoryPage> => {
    const scope = JSON.stringify(['history', order, caller.userId, filter]);
    const after = cursor === null ? null : positionOf(cursor, scope);
    const fits = { ...filter, owner: ownerOf(caller) };
    const totalOf = countBeside(sql, fits, after);
    const page = await reportPage(sql, fits, after, { limit, order });
    const total = await totalOf(page.rows.length < limit ? page.rows.length : null);
    const results = await readResults(
      sql,
      page.rows.filter(({ status }) => status === 'completed').map(({ id }) => id),
    );
    return {
      items: page.rows.map((row) => ({ ...row, result: results.get(row.id) ?? null })),
      nextCursor: page.end === null ? null : cursorOf(page.end, scope),
      total,
    };
  };
}
