import type { LockListView, ResourceListView } from '../../contract/schemas/holds.js';
import { type AddCommand, act } from '../command.js';
import { moment } from '../moments.js';
import type { Session } from '../session.js';
import { type Column, printTable } from '../terminal.js';

type Lock = LockListView['items'][number];
type Pool = ResourceListView['items'][number];

const amount = (value: number) => String(Math.round(value * 100) / 100);

const lockColumns = (nowMs: number): readonly Column<Lock>[] => [
  { title: 'LOCK', value: ({ name }) => name },
  { title: 'TASK', value: ({ task_id }) => task_id ?? 'another user’s' },
  { title: 'SINCE', value: ({ acquired_at }) => moment(acquired_at, nowMs), plain: ({ acquired_at }) => acquired_at },
  { title: 'UNTIL', value: ({ until }) => until },
  { title: 'WAITING', value: ({ waiting }) => String(waiting.length) },
];

const poolColumns: readonly Column<Pool>[] = [
  { title: 'POOL', value: ({ pool }) => pool },
  { title: 'TOTAL', value: ({ total, unit }) => `${amount(total)} ${unit}` },
  { title: 'HELD', value: ({ allocated }) => amount(allocated) },
  { title: 'IN USE', value: ({ used }) => (used === null ? '' : amount(used)) },
  { title: 'TASKS', value: ({ tasks }) => String(tasks.length) },
  { title: 'WAITING', value: ({ waiting }) => String(waiting) },
];

export const addLocks: AddCommand = (program) => {
  program
    .command('locks')
    .description('list the locks that tasks have')
    .action(
      act<[], object>(async (session) => {
        const items = await readLocks(session);
        if (session.json) return session.printJson({ items, next_cursor: null });
        if (items.length === 0) session.terminal.note('No task has a lock.');
        printTable(session.terminal, lockColumns(Date.now()), items);
      }),
    );
};

/** All of them, page by page. */
async function readLocks(session: Session): Promise<Lock[]> {
  const client = await session.client();
  const items: Lock[] = [];
  for (let cursor: string | null | undefined; cursor !== null; ) {
    const page: LockListView = await client.locks.list({ limit: 500, ...(cursor === undefined ? {} : { cursor }) });
    items.push(...page.items);
    cursor = page.next_cursor;
  }
  return items;
}

export const addResources: AddCommand = (program) => {
  program
    .command('resources')
    .description('list the resource pools, with what tasks hold of them')
    .action(
      act<[], object>(async (session) => {
        const list = await (await session.client()).resources();
        if (session.json) return session.printJson(list);
        printTable(session.terminal, poolColumns, list.items);
      }),
    );
};
