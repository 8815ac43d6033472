import { type AddCommand, act } from '../command.js';
import { exitCodes } from '../failure.js';
import { visibleLine } from '../visible.js';

export const addStatus: AddCommand = (program) => {
  program
    .command('status')
    .description('say how the parts of a running installation are; exit code 1 when one of them is not well')
    .action(
      act<[], object>(async (session) => {
        const health = await (await session.client()).health();
        if (Object.values(health.checks).some(({ status }) => status !== 'ok')) process.exitCode = exitCodes.failed;
        if (session.json) return session.printJson(health);
        for (const [name, { status, detail }] of Object.entries(health.checks))
          session.terminal.print(
            [name.replaceAll('_', ' '), session.terminal.paint(status === 'ok' ? 'green' : 'red', status), visibleLine(detail ?? '')].join('\t').trimEnd(),
          );
      }),
    );
};
