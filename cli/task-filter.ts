import type { Command } from 'commander';
import { type TaskStatus, taskStatuses } from '../contract/status.js';
import { collect } from './command.js';
import { usageFault } from './failure.js';
import { parseSince } from './moments.js';

/** Filters as they are typed; values of one option are alternatives. */
export interface FilterOptions {
  readonly status?: readonly string[];
  readonly template?: readonly string[];
  readonly level?: readonly string[];
  readonly user?: readonly string[];
  readonly name?: string;
  readonly since?: string;
}

/** Gives a command the filters of the list of tasks. */
export function withFilters(command: Command): Command {
  return command
    .option('-s, --status <status>', `${taskStatuses.join(', ')}; repeatable`, collect)
    .option('-t, --template <name>', 'tasks of this template; repeatable', collect)
    .option('--level <1-10>', 'tasks of this priority; repeatable', collect)
    .option('--user <id>', 'tasks of this user; repeatable', collect)
    .option('--name <text>', 'tasks whose name contains a text')
    .option('--since <time>', 'tasks created since a time, such as 2026-01-09, or 15min, 2h, 7d ago');
}

/** @throws {CliFailure} 2 for a status or a time that is none */
export function filterOf({ status = [], template = [], level = [], user = [], name, since }: FilterOptions) {
  return {
    ...(status.length === 0 ? {} : { status: status.map(statusOf) }),
    ...(template.length === 0 ? {} : { template: [...template] }),
    ...(level.length === 0 ? {} : { priority: level.map(levelOf) }),
    ...(user.length === 0 ? {} : { user_id: [...user] }),
    ...(name === undefined ? {} : { name }),
    ...(since === undefined ? {} : { created_after: sinceOf(since, Date.now()) }),
  };
}

/** @throws {CliFailure} 2 for what is no time */
export function sinceOf(text: string, nowMs: number): string {
  const time = parseSince(text, nowMs);
  if (time === undefined) throw usageFault(`--since ${text} is no time: give one such as 2026-01-09, or 15min, 2h, 7d.`);
  return time;
}

export function isEmpty(filter: object): boolean {
  return Object.keys(filter).length === 0;
}

function statusOf(text: string): TaskStatus {
  const status = taskStatuses.find((known) => known === text);
  if (!status) throw usageFault(`${text} is no status: give one of ${taskStatuses.join(', ')}.`);
  return status;
}

/** @throws {CliFailure} 2 */
export function levelOf(text: string): number {
  if (!/^([1-9]|10)$/.test(text)) throw usageFault(`${text} is no priority: give 1 to 10; 10 is most urgent.`);
  return Number(text);
}

/** @throws {CliFailure} 2 */
export function countOf(text: string, option: string, max: number): number {
  const value = /^\d{1,6}$/.test(text) ? Number(text) : 0;
  if (value < 1 || value > max) throw usageFault(`${option} ${text}: give a whole number from 1 to ${max}.`);
  return value;
}
