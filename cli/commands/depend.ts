import { type AddCommand, act, collect } from '../command.js';
import { usageFault } from '../failure.js';
import { resolveId, resolveIds } from '../resolve-ids.js';

export const addDepend: AddCommand = (program) => {
  program
    .command('depend <id>')
    .description('let a task that has not started wait for others, or wait for them no more')
    .option('--on <id>', 'a task that has to complete first; repeatable', collect)
    .option('--not-on <id>', 'a task that it need not wait for; repeatable', collect)
    .action(
      act<[id: string], { on?: readonly string[]; notOn?: readonly string[] }>(async (session, { on = [], notOn = [] }, text) => {
        if (on.length + notOn.length === 0) throw usageFault('Name a task with --on or --not-on.');
        const client = await session.client();
        const id = await resolveId(client, text);
        const [added, removed] = [await resolveIds(client, on), await resolveIds(client, notOn)];
        for (const other of added) await client.tasks.addDependency(id, { task_id: other });
        for (const other of removed) await client.tasks.removeDependency(id, other);
        const task = await client.tasks.get(id);
        if (session.json) session.printJson(task);
        else session.terminal.print(task.depends_on.length === 0 ? `${id} waits for no other task` : `${id} waits for ${task.depends_on.join(', ')}`);
      }),
    );
};
