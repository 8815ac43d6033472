import type { Command } from 'commander';
import type { Client } from '../../client/client.js';
import type { ModelOrder, Models } from '../../client/shapes.js';
import { pause } from '../../client/transport.js';
import { type AddCommand, act } from '../command.js';
import { exitCodes } from '../failure.js';
import { relative } from '../moments.js';
import type { Session } from '../session.js';
import { type Column, printTable } from '../terminal.js';
import { visibleLine } from '../visible.js';

type Model = Models['items'][number];
const gb = (bytes: number | null) => (bytes === null ? '' : `${(bytes / 1e9).toFixed(1)} GB`);
const pollMs = 500;

const columns = (nowMs: number): readonly Column<Model>[] => [
  { title: 'NAME', value: ({ name }) => name },
  { title: 'HOST', value: ({ host }) => host },
  { title: 'STATE', value: stateOf, color: ({ loaded }) => (loaded ? 'green' : undefined) },
  { title: 'MEMORY', value: ({ memory_bytes }) => gb(memory_bytes) },
  { title: 'DISK', value: ({ size_bytes }) => gb(size_bytes) },
  { title: 'WAIT', value: ({ queue_depth }) => String(queue_depth) },
  { title: 'USES', value: ({ usage }) => String(usage.inferences) },
  { title: 'LAST', value: ({ last_used_at }) => (last_used_at === null ? '' : relative(last_used_at, nowMs)), plain: ({ last_used_at }) => last_used_at ?? '' },
  { title: 'ALIASES', value: ({ aliases }) => aliases.join(' '), flexible: true },
];

const hostColumns = (models: readonly Model[]): readonly Column<Models['hosts'][number]>[] => [
  { title: 'HOST', value: ({ id }) => id },
  { title: 'STATE', value: ({ ready }) => (ready ? 'ready' : 'no work'), color: ({ ready }) => (ready ? 'green' : 'red') },
  { title: 'LOADED', value: ({ id, models_max: most }) => `${models.filter(({ host, loaded }) => loaded && host === id).length} of ${most}` },
  { title: 'ROOM', value: ({ room_bytes }) => gb(room_bytes) },
  { title: 'BUDGET', value: ({ budget_bytes }) => gb(budget_bytes) },
  { title: 'PARALLEL', value: ({ parallel }) => String(parallel) },
  { title: 'SERVER', value: ({ address }) => address },
  { title: 'WHY', value: ({ why }) => why ?? '', flexible: true },
];

function stateOf({ pull, serving, loaded }: Model): string {
  if (pull !== null) return pull.total_bytes === 0 ? pull.status : `pulling ${Math.floor((100 * pull.completed_bytes) / pull.total_bytes)} %`;
  return serving ? 'serving' : loaded ? 'loaded' : '';
}

export const addModels: AddCommand = (program) => {
  const models = program.command('models').description('the models of the hosts');
  models
    .command('list', { isDefault: true })
    .description('list the models, loaded ones first')
    .action(
      act<[], object>(async (session) => {
        const list = await (await session.client()).models.list();
        if (session.json) return session.printJson(list);
        if (list.items.length === 0) session.terminal.note('No models. `orchestra models pull <name>` fetches one; tasks fetch what they need by themselves.');
        printTable(session.terminal, columns(Date.now()), list.items);
        for (const host of list.hosts) if (!host.ready) session.terminal.note(`${visibleLine(host.id)} takes no work: ${visibleLine(host.why ?? '')}`);
      }),
    );
  models
    .command('hosts')
    .description('list the hosts, with what they may hold in memory')
    .action(
      act<[], object>(async (session) => {
        const { hosts, items } = await (await session.client()).models.list();
        if (session.json) return session.printJson(hosts);
        if (hosts.length === 0) session.terminal.note('No host is known; `orchestra host` makes a machine with a model server one.');
        printTable(session.terminal, hostColumns(items), hosts);
      }),
    );
  for (const [action, what] of [
    ['load', 'load a model, and fetch it first when it is missing'],
    ['unload', 'unload a model that no task uses'],
  ] as const)
    addOrder(models, action, what);
  addOrder(models, 'pull', pullWhat);
};

const pullWhat = 'fetch a model, or its newest version';

/** `orchestra pull`, as people who know Ollama type it. */
export const addPull: AddCommand = (program) => addOrder(program, 'pull', pullWhat);

function addOrder(parent: Command, action: 'load' | 'unload' | 'pull', what: string): void {
  parent
    .command(`${action} <name>`)
    .description(what)
    .option('--host <id>', 'on this host; default: one that has the model')
    .option('--no-wait', 'do not wait for the end')
    .action(
      act<[name: string], { host?: string; wait: boolean }>(async (session, options, name) => {
        const client = await session.client();
        const order = await client.models[action](name, options.host === undefined ? {} : { host: options.host });
        const ended = options.wait ? await follow(session, client, order) : order;
        if (ended.state === 'failed') process.exitCode = exitCodes.failed;
        if (session.json) return session.printJson(ended);
        const error = ended.error === null ? '' : `: ${visibleLine(ended.error.message)} [${visibleLine(ended.error.code)}]`;
        session.terminal.print(`${visibleLine(ended.model)} on ${ended.host}: ${action} ${ended.state}${error}`);
      }),
    );
}

/** Waits for an order, and shows how far a pull is. Ctrl-C leaves it going on. */
async function follow(session: Session, client: Client, order: ModelOrder): Promise<ModelOrder> {
  if (order.order_id === null) return order;
  const signal = session.interruptible('It goes on without being watched; `orchestra models` shows how far it is.');
  let shown = '';
  for (let now = order; ; now = await client.models.order(order.order_id, { signal })) {
    if (now.state !== 'open') return now;
    const model = (await client.models.list({ signal })).items.find(({ name, host }) => name === now.model && host === now.host);
    const state = model === undefined ? '' : stateOf(model);
    if (state !== '' && state !== shown) session.terminal.note(`${visibleLine(now.model)}: ${state}`);
    shown = state;
    await pause(pollMs, signal);
  }
}
