import type { ConfigurationView } from '../../contract/schemas/configuration.js';
import { type AddCommand, act } from '../command.js';
import { type Column, printTable } from '../terminal.js';
import { visibleLine } from '../visible.js';

type Setting = ConfigurationView['items'][number];

const columns: readonly Column<Setting>[] = [
  { title: 'KEY', value: ({ key }) => key },
  { title: 'VALUE', value: ({ value }) => (value === null ? '' : visibleLine(typeof value === 'string' ? value : JSON.stringify(value))), flexible: true },
  { title: 'SET BY', value: ({ origin, variable }) => (origin === 'variable' && variable !== null ? variable : origin) },
  { title: 'NOTE', value: ({ in_force }) => (in_force ? '' : 'not in force yet') },
];

export const addConfig: AddCommand = (program) => {
  program
    .command('config')
    .description('show the configuration that the API runs with, without its secrets')
    .option('--all', 'also what nobody has changed')
    .action(
      act<[], { all?: boolean }>(async (session, { all }) => {
        const configuration = await (await session.client()).config();
        if (session.json) return session.printJson(configuration);
        const shown = configuration.items.filter(({ origin }) => all || origin !== 'default');
        if (shown.length === 0) session.terminal.note(`Nothing differs from the defaults in ${configuration.file}; --all shows them.`);
        printTable(session.terminal, columns, shown);
      }),
    );
};
