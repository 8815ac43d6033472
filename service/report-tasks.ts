import type { ReportRowView } from '../contract/schemas/many.js';
import { reportPage, type TaskFilter, type TaskPosition } from '../db/reports.js';
import { type Caller, ownerOf } from './caller.js';
import type { ServiceDeps } from './deps.js';

const pageSize = 500;

/** The caller's tasks that fit a filter, newest first, page by page, so that a report of any length takes bounded memory. */
export function reportTasksUseCase({ sql }: ServiceDeps) {
  return async function* (caller: Caller, filter: Omit<TaskFilter, 'owner'>): AsyncGenerator<readonly ReportRowView[]> {
    for (let after: TaskPosition | null = null; ; ) {
      const page: Awaited<ReturnType<typeof reportPage>> = await reportPage(sql, { ...filter, owner: ownerOf(caller) }, after, {
        limit: pageSize,
        order: 'created',
      });
      if (page.rows.length > 0) yield page.rows;
      if (page.end === null) return;
      after = page.end;
    }
  };
}
