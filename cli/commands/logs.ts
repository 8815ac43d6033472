import { type AddCommand, act } from '../command.js';
import { createEventPrinter, followTask, printEvent, tellEnd } from '../follow.js';
import { resolveId } from '../resolve-ids.js';

export const addLogs: AddCommand = (program) => {
  program
    .command('logs <id>')
    .description('show what a task has printed and what happened to it')
    .option('-f, --follow', 'go on until it has ended; exit code 1 unless it completed')
    .option('-o, --output-only', 'only what its steps print and its models write')
    .action(
      act<[id: string], { follow?: boolean; outputOnly?: boolean }>(async (session, options, text) => {
        const client = await session.client();
        const id = await resolveId(client, text);
        const outputOnly = options.outputOnly === true;
        if (options.follow) return tellEnd(session, await followTask(session, client, id, { outputOnly }), { result: false });
        const printer = createEventPrinter(session.terminal, { outputOnly });
        for (let after: string | undefined; ; ) {
          const page = await client.tasks.eventPage(id, { ...(after === undefined ? {} : { after }), limit: 500 });
          for (const event of page.items) {
            if (session.json) printEvent(session, event, { outputOnly });
            else printer.event(event);
          }
          if (page.items.length === 0) break;
          after = page.next;
        }
        printer.end();
      }),
    );
};
