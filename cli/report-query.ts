import type { Command } from 'commander';
import type { ReportQuery } from '../client/shapes.js';
import { collect } from './command.js';
import { usageFault } from './failure.js';
import { parseSince } from './moments.js';

/** Which tasks a look back tells of, as it is typed. */
export interface ReportOptions {
  readonly template?: readonly string[];
  readonly since: string;
}

const ranges = ['24h', '7d', '30d'] as const satisfies readonly ReportQuery['range'][];

/** Gives a command the options of a look back. */
export function withReportOptions(command: Command): Command {
  return command.option('-t, --template <name>', 'tasks of this template; repeatable', collect).option('--since <24h|7d|30d>', 'how far to look back', '24h');
}

/** @throws {CliFailure} 2 for a span that the API does not look back */
export function reportQueryOf({ template = [], since }: ReportOptions): ReportQuery {
  const nowMs = Date.now();
  const from = parseSince(since, nowMs);
  const range = from === undefined ? undefined : ranges.find((each) => parseSince(each, nowMs) === from);
  if (range === undefined) throw usageFault(`--since ${since}: give 24h, 7d or 30d.`);
  return { range, ...(template.length === 0 ? {} : { template }) };
}
