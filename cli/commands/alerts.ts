import type { Alerts } from '../../client/shapes.js';
import { type AddCommand, act } from '../command.js';
import { exitCodes } from '../failure.js';
import { relative } from '../moments.js';
import { type Column, printTable } from '../terminal.js';

type Alert = Alerts['items'][number];

const columns = (nowMs: number): readonly Column<Alert>[] => [
  { title: 'RULE', value: ({ rule }) => rule, color: ({ cleared_at }) => (cleared_at === null ? 'red' : 'dim') },
  { title: 'OF', value: ({ subject }) => subject },
  { title: 'SINCE', value: ({ fired_at }) => relative(fired_at, nowMs), plain: ({ fired_at }) => fired_at },
  { title: 'ENDED', value: ({ cleared_at }) => (cleared_at === null ? '' : relative(cleared_at, nowMs)), plain: ({ cleared_at }) => cleared_at ?? '' },
  { title: 'MESSAGE', value: ({ message }) => message },
];

export const addAlerts: AddCommand = (program) => {
  program
    .command('alerts')
    .description('list the alerts that hold; exit code 1 when there is one, for cron')
    .option('--all', 'also the latest that have ended')
    .action(
      act<[], { all?: boolean }>(async (session, { all = false }) => {
        const list = await (await session.client()).alerts();
        const holding = list.items.filter(({ cleared_at }) => cleared_at === null);
        if (holding.length > 0) process.exitCode = exitCodes.failed;
        if (session.json) return session.printJson(list);
        const shown = all ? list.items : holding;
        if (holding.length === 0)
          session.terminal.note(list.items.length > shown.length ? 'No alert holds; --all shows those that have ended.' : 'No alert holds.');
        if (shown.length > 0) printTable(session.terminal, columns(Date.now()), shown);
      }),
    );
};
