import { type AddCommand, act } from '../command.js';
import { resolveId } from '../resolve-ids.js';
import { describeTask } from '../task-lines.js';

export const addShow: AddCommand = (program) => {
  program
    .command('show <id>')
    .description('show a task: why it waits, its steps, its result or error')
    .action(
      act<[id: string], object>(async (session, _options, text) => {
        const client = await session.client();
        const id = await resolveId(client, text);
        const task = await client.tasks.get(id);
        if (session.json) return session.printJson(task);
        const { items } = await client.tasks.executions(id);
        for (const line of describeTask(task, items, session.terminal, Date.now())) session.terminal.print(line);
      }),
    );
};
