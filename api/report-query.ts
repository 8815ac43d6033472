import { z } from '@hono/zod-openapi';
import { reportRangeNames } from '../contract/schemas/reports.js';
import { TaskFilterQuery } from './task-filter-query.js';

/** Which tasks a look back tells of. */
export const ReportQuery = {
  range: z.enum(reportRangeNames).default('24h').meta({ description: 'How far to look back', example: '7d' }),
  template: TaskFilterQuery.template,
};
