import type { TrendBucketView, TrendsView } from '../../contract/schemas/reports.js';
import { type AddCommand, act } from '../command.js';
import { usageFault } from '../failure.js';
import { moment, span } from '../moments.js';
import { type ReportOptions, reportQueryOf, withReportOptions } from '../report-query.js';
import { type Column, printTable, type Terminal } from '../terminal.js';

type Template = TrendsView['templates'][number];
type Step = TrendsView['steps'][number];
type Ended = Pick<Template, 'template' | 'completed' | 'failed' | 'cancelled' | 'ran' | 'waited'>;
type Stretch = TrendBucketView & Pick<Template, 'template'>;

interface Options extends ReportOptions {
  readonly by: string;
}

/** A duration that may be none. */
const duration = <Row>(title: string, seconds: (row: Row) => number | null): Column<Row> => ({
  title,
  value: (row) => told(seconds(row), span),
  plain: (row) => told(seconds(row), String),
});

const told = (seconds: number | null, how: (seconds: number) => string) => (seconds === null ? '' : how(seconds));

const count = <Row>(title: string, value: (row: Row) => number): Column<Row> => ({ title, value: (row) => String(value(row)) });

const failures = <Row extends { readonly failed: number }>(): Column<Row> => ({
  ...count<Row>('FAILED', ({ failed }) => failed),
  color: ({ failed }) => (failed > 0 ? 'red' : undefined),
});

const templateColumns: readonly Column<Ended>[] = [
  { title: 'TEMPLATE', value: ({ template }) => template, flexible: true },
  count('COMPLETED', ({ completed }) => completed),
  failures(),
  count('CANCELLED', ({ cancelled }) => cancelled),
  duration('RAN', ({ ran }) => ran.median),
  duration('RAN 90 %', ({ ran }) => ran.p90),
  duration('WAITED', ({ waited }) => waited.median),
  duration('WAITED 90 %', ({ waited }) => waited.p90),
];

const timeColumns = (nowMs: number): readonly Column<Stretch>[] => [
  { title: 'FROM', value: ({ at }) => moment(at, nowMs), plain: ({ at }) => at },
  ...templateColumns,
];

const stepColumns: readonly Column<Step>[] = [
  { title: 'TEMPLATE', value: ({ template }) => template, flexible: true },
  { title: 'STEP', value: ({ step }) => step, flexible: true },
  { title: 'TYPE', value: ({ step_type }) => step_type, flexible: true },
  count('TRIES', ({ runs }) => runs),
  failures(),
  duration('RAN', ({ ran }) => ran.median),
  duration('RAN 90 %', ({ ran }) => ran.p90),
];

const printers: ReadonlyMap<string, (terminal: Terminal, trends: TrendsView) => void> = new Map([
  ['template', (terminal, { templates }) => printTable(terminal, templateColumns, templates)],
  [
    'time',
    (terminal, { templates }) => {
      const stretches = templates.flatMap(({ template, buckets }) => buckets.map((bucket) => ({ template, ...bucket })));
      printTable(terminal, timeColumns(Date.now()), stretches);
    },
  ],
  ['step', (terminal, { steps }) => printTable(terminal, stepColumns, steps)],
]);

export const addTrends: AddCommand = (program) => {
  withReportOptions(
    program.command('trends').description('show how tasks ended, and how long they ran and waited: the median, and what nine of ten took at most'),
  )
    .option('--by <template|time|step>', 'a line for each template; for each hour, six hours or day of it; or for the slowest steps', 'template')
    .action(
      act<[], Options>(async (session, options) => {
        const print = printers.get(options.by);
        if (print === undefined) throw usageFault(`--by ${options.by}: give template, time or step.`);
        const query = reportQueryOf(options);
        const trends = await (await session.client()).reports.trends(query);
        if (session.json) return session.printJson(trends);
        if (trends.templates.length === 0) return session.terminal.note(`No task has ended since ${moment(trends.from, Date.now())}.`);
        print(session.terminal, trends);
        if (!trends.complete) session.terminal.note('So many tasks ended that only the latest 100,000 are counted; a shorter --since counts all of its own.');
      }),
    );
};
