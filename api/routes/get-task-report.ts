import { createRoute, z } from '@hono/zod-openapi';
import { Report, ReportRow, type ReportRowView } from '../../contract/schemas/many.js';
import { callerOf } from '../auth/authenticate.js';
import { csvLine } from '../csv.js';
import { defineRoute } from '../define-route.js';
import { problems } from '../problem.js';
import { filterOf, TaskFilterQuery } from '../task-filter-query.js';
import { answerText } from '../text-stream.js';

const columns = Object.keys(ReportRow.shape) as (keyof ReportRowView)[];

const ReportQuery = z.strictObject({
  ...TaskFilterQuery,
  format: z.enum(['json', 'csv']).default('json').meta({ description: 'How it is written', example: 'csv' }),
});

export const getTaskReport = defineRoute(
  'read',
  createRoute({
    method: 'get',
    path: '/api/v1/reports/tasks',
    operationId: 'reportTasks',
    tags: ['reports'],
    summary: 'Report tasks',
    description:
      'Every task that fits the filters of the list, newest first, with what it used, as a file. In CSV a text that a spreadsheet would take for a formula begins with an apostrophe.',
    request: { query: ReportQuery },
    responses: {
      200: { description: 'The report.', content: { 'application/json': { schema: Report }, 'text/csv': { schema: z.string() } } },
      ...problems('invalid_request'),
    },
  }),
  async (c) => {
    const query = c.req.valid('query');
    const pages = c.var.services.reportTasks(callerOf(c), filterOf(query));
    const csv = query.format === 'csv';
    const answer = await answerText(c, csv ? csvOf(pages) : jsonOf(pages), csv ? 'text/csv; charset=utf-8' : 'application/json');
    answer.headers.set('Content-Disposition', `attachment; filename="tasks.${query.format}"`); // not before: a problem is no file
    return answer as never;
  },
);

/** The head goes out together with the first page, so that a report which cannot be read is answered as a problem and not as a file that breaks off. */
async function* csvOf(pages: AsyncIterable<readonly ReportRowView[]>): AsyncGenerator<string> {
  let head = csvLine(columns);
  for await (const rows of pages) {
    yield head + rows.map((row) => csvLine(columns.map((column) => row[column]))).join('');
    head = '';
  }
  if (head !== '') yield head;
}

async function* jsonOf(pages: AsyncIterable<readonly ReportRowView[]>): AsyncGenerator<string> {
  let head = '{"items":[';
  for await (const rows of pages) {
    yield `${head}\n${rows.map((row) => JSON.stringify(row)).join(',\n')}`;
    head = ',';
  }
  yield head === ',' ? '\n]}\n' : `${head}\n]}\n`;
}
