import { createInterface } from 'node:readline/promises';
import type { BulkResult } from '../client/shapes.js';
import { exitCodes, usageFault } from './failure.js';
import { resolveIds } from './resolve-ids.js';
import type { Session } from './session.js';
import { type FilterOptions, filterOf, isEmpty } from './task-filter.js';

export interface BulkOptions extends FilterOptions {
  readonly dryRun?: boolean;
  readonly yes?: boolean;
}

const said: Readonly<Record<string, string>> = {
  cancelled: 'cancelled',
  stopping: 'is being stopped',
  retried: 'queued again',
  changed: 'changed',
  unchanged: 'is so already',
  finished: 'has ended',
  not_retryable: 'has neither failed nor been cancelled',
  not_found: 'is not there',
  would_change: 'would be changed',
};

/** Does one thing to the tasks that ids or filters name; what filters name is done after a question, or with --yes. */
export async function changeTasks(
  session: Session,
  texts: readonly string[],
  options: BulkOptions,
  change: { readonly action: 'cancel' | 'retry' | 'priority'; readonly priority?: number },
): Promise<void> {
  const filter = filterOf(options);
  if ((texts.length === 0) === isEmpty(filter)) throw usageFault('Give either ids of tasks or filters such as --status failed.');
  const client = await session.client();
  if (texts.length > 0) {
    const ids = await resolveIds(client, texts);
    tell(session, [await client.tasks.bulk({ ...change, ids, dry_run: options.dryRun === true })]);
    return;
  }
  // Tasks that are created while the question is open are not among those it was about. The server's clock counts: the newest task has it.
  const [newest] = (await client.tasks.listPage({ ...filter, limit: 1 })).items;
  const bounded = { ...filter, created_before: new Date(newest === undefined ? Date.now() : Date.parse(newest.created_at) + 1).toISOString() };
  const asked = await client.tasks.bulk({ ...change, filter: bounded, dry_run: true });
  if (options.dryRun || asked.matched === 0) return tell(session, [asked]);
  if (!options.yes && !(await confirmed(session, `${change.action} ${asked.matched} tasks?`))) throw usageFault('Nothing was done.');
  const results: BulkResult[] = [];
  for (let left = asked.matched; left > 0; ) {
    const result = await client.tasks.bulk({ ...change, filter: bounded });
    results.push(result);
    // Others may be changing the same tasks.
    left = result.items.length === 0 ? 0 : result.remaining;
  }
  tell(session, results);
}

async function confirmed(session: Session, question: string): Promise<boolean> {
  if (!session.terminal.interactive) throw usageFault('This asks many tasks and nobody can be asked here: add --yes, or --dry-run to see which.');
  const lines = createInterface({ input: process.stdin, output: process.stderr });
  try {
    return /^y(es)?$/i.test(await lines.question(`${question} [y/N] `));
  } finally {
    lines.close();
  }
}

function tell(session: Session, results: readonly BulkResult[]): void {
  const items = results.flatMap((result) => result.items);
  const changed = results.reduce((sum, result) => sum + result.changed, 0);
  if (items.length > 0 && items.every(({ outcome }) => outcome === 'not_found')) process.exitCode = exitCodes.notFound;
  else if (changed < items.length) process.exitCode = exitCodes.failed;
  if (session.json) return session.printJson(results.length === 1 ? results[0] : { results });
  for (const { id, outcome } of items) session.terminal.print(`${id}\t${said[outcome] ?? outcome}`);
  session.terminal.note(`${changed} of ${items.length} tasks`);
}
