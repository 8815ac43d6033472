import type { Performance } from '../../client/shapes.js';
import { type AddCommand, act } from '../command.js';
import { usageFault } from '../failure.js';
import { moment, span } from '../moments.js';
import { sinceOf } from '../task-filter.js';
import { type Column, printTable } from '../terminal.js';

/** A number of the report. */
interface Measure {
  /** as the API calls it */
  readonly name: string;
  readonly value: number;
  readonly words: string;
  /** the value with its unit */
  readonly text: string;
}

const hoursMax = 8_760;
const shares: readonly string[] = ['error_rate', 'prediction_accuracy', 'loading_share'];

const percent = (share: number) => `${Math.round(share * 1_000) / 10} %`;
/** Never rounded up to 100 %. */
const availability = (share: number) => `${(Math.floor(share * 10_000) / 100).toFixed(2)} %`;

const columns: readonly Column<Measure>[] = [
  { title: 'MEASURE', value: ({ words }) => words, plain: ({ name }) => name, flexible: true },
  { title: 'VALUE', value: ({ text }) => text, plain: ({ value }) => String(value) },
];

export const addPerformance: AddCommand = (program) => {
  program
    .command('performance')
    .description('show the means of durations, of what is in use and of what is collected, and the availability of the last months')
    .option('--since <time>', 'from a time on, such as 2026-01-09, or 2h, 7d ago; in whole hours', '24h')
    .action(
      act<[], { since: string }>(async (session, { since }) => {
        const hours = hoursOf(since);
        const report = await (await session.client()).reports.performance({ hours });
        if (session.json) return session.printJson(report);
        session.terminal.note(`Means since ${moment(report.from, Date.now())}; availability by month.`);
        printTable(session.terminal, columns, measuresOf(report));
      }),
    );
};

function hoursOf(since: string): number {
  const nowMs = Date.now();
  const hours = Math.ceil((nowMs - Date.parse(sinceOf(since, nowMs))) / 3_600_000);
  if (hours < 1 || hours > hoursMax) throw usageFault(`--since ${since}: give a time of the last 365 days, such as 2h or 7d.`);
  return hours;
}

function measuresOf(report: Performance): Measure[] {
  const times =
    report.tasks_completed === 0
      ? []
      : ([
          ['avg_task_execution_time', 'task from start to end', report.avg_task_execution_time],
          ['avg_workflow_completion_time', 'task from creation to end', report.avg_workflow_completion_time],
        ] as const);
  return [
    { name: 'tasks_completed', value: report.tasks_completed, words: 'tasks completed', text: String(report.tasks_completed) },
    ...times.map(([name, words, value]) => ({ name, words, value, text: span(value) })),
    ...Object.entries(report.resource_utilization).map(([resource, value]) => ({
      name: `resource_utilization of ${resource}`,
      value,
      words: `use of ${resource.replaceAll('_', ' ')}`,
      text: percent(value),
    })),
    ...Object.entries(report.averages).map(([name, value]) => collected(name, value)),
    ...report.availability.map(({ part, month, share, minutes, minutes_ok }) => ({
      name: `availability of ${part} in ${month}`,
      value: share,
      words: `availability of ${part} in ${month}`,
      text: `${availability(share)}, ${minutes - minutes_ok} of ${minutes} min away`,
    })),
  ];
}

/** A collected metric; its unit is in its name. */
function collected(name: string, value: number): Measure {
  const [metric = ''] = name.split(' ', 1);
  const [, stem, unit] = /^(.+)_(ms|seconds)$/.exec(metric) ?? [];
  const words = `${stem ?? metric}${name.slice(metric.length)}`.replaceAll('_', ' ');
  if (unit !== undefined) return { name, value, words, text: span(unit === 'ms' ? value / 1_000 : value) };
  return { name, value, words, text: shares.includes(metric) ? percent(value) : String(Math.round(value * 100) / 100) };
}
