import { type AddCommand, act, collect } from '../command.js';
import { usageFault } from '../failure.js';
import { leftRunning, tellEnd } from '../follow.js';
import { parseParameters } from '../parameters.js';
import { resolveId } from '../resolve-ids.js';
import { levelOf } from '../task-filter.js';

interface Options {
  readonly param?: readonly string[];
  readonly without?: readonly string[];
  readonly template?: string;
  readonly priority?: string;
  readonly name?: string;
  readonly wait?: boolean;
}

export const addReplay: AddCommand = (program) => {
  program
    .command('replay <id>')
    .description('submit the input of a task again as a new one, with changes, under the newest version of its template')
    .option('-p, --param <name=value>', 'a parameter that is different this time; repeatable', collect)
    .option('--without <name>', 'a parameter that is left out this time; repeatable', collect)
    .option('-t, --template <name>', 'another template')
    .option('--priority <1-10>', 'another priority')
    .option('--name <text>', 'another name')
    .option('--wait', 'wait for the end; exit code 1 unless it completed')
    .action(
      act<[id: string], Options>(async (session, options, text) => {
        const client = await session.client();
        const id = await resolveId(client, text);
        const { param = [], without = [] } = options;
        const source = await client.tasks.get(id);
        const declared = param.length + without.length === 0 ? [] : (await client.templates.get(options.template ?? source.template)).parameters;
        const droppable = [...new Set([...Object.keys(source.parameters), ...declared.map(({ name }) => name)])];
        const unknown = without.find((name) => !droppable.includes(name));
        if (unknown !== undefined) {
          throw usageFault(
            `--without ${unknown}: neither the task nor the template has such a parameter; there ${droppable.length === 0 ? 'is none' : `are ${droppable.join(', ')}`}.`,
          );
        }
        const parameters = { ...parseParameters(param, declared), ...Object.fromEntries(without.map((name) => [name, null])) };
        const task = await client.tasks.replay(id, {
          parameters: parameters as never,
          ...(options.template === undefined ? {} : { template: options.template }),
          ...(options.priority === undefined ? {} : { priority: levelOf(options.priority) }),
          ...(options.name === undefined ? {} : { name: options.name }),
        });
        if (options.wait) {
          session.terminal.note(`task ${task.id}`);
          return tellEnd(session, await client.tasks.wait(task.id, { signal: session.interruptible(leftRunning(task.id)) }), { result: true });
        }
        if (session.json) session.printJson(task);
        else session.terminal.print(task.id);
      }),
    );
};
