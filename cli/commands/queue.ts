import type { QueuePage } from '../../client/shapes.js';
import { type AddCommand, act, collect } from '../command.js';
import { usageFault } from '../failure.js';
import { pauseLines, queueColumns } from '../queue-lines.js';
import { resolveId, resolveIds } from '../resolve-ids.js';
import type { Session } from '../session.js';
import { countOf } from '../task-filter.js';
import { printTable } from '../terminal.js';
import { visibleLine } from '../visible.js';

interface QueueOptions {
  readonly model?: readonly string[];
  readonly user?: readonly string[];
  readonly pool?: readonly string[];
  readonly why?: readonly string[];
  readonly limit?: string;
  readonly all?: boolean;
}

const pageMax = 500;

export const addQueue: AddCommand = (program) => {
  program
    .command('queue')
    .description('show what waits, in the order in which it starts, with times and reasons')
    .option('--model <name>', 'steps that need this model; may be repeated', collect)
    .option('--user <id>', 'tasks of this user', collect)
    .option('--pool <name>', 'general or model', collect)
    .option('--why <status-detail>', 'those that wait for this, such as held or waiting_model', collect)
    .option('-n, --limit <n>', 'entries at most', '20')
    .option('--all', 'all of them')
    .action(
      act<[], QueueOptions>(async (session, options) => {
        const queue = await read(session, options);
        if (session.json) return session.printJson(queue);
        for (const line of pauseLines(queue.pauses)) session.terminal.note(line);
        if (queue.items.length === 0) return session.terminal.note('Nothing waits.');
        printTable(session.terminal, queueColumns(Date.now()), queue.items);
        if (queue.total > queue.items.length) session.terminal.note(`${queue.items.length} of ${queue.total}; --limit or --all shows more.`);
      }),
    );
};

async function read(session: Session, options: QueueOptions): Promise<QueuePage> {
  const client = await session.client();
  const pool = options.pool?.map((name) => {
    if (name !== 'general' && name !== 'model') throw usageFault(`${name} is no pool: give general or model.`);
    return name;
  });
  const filter = {
    ...(options.model === undefined ? {} : { model: options.model }),
    ...(options.user === undefined ? {} : { user: options.user }),
    ...(pool === undefined ? {} : { pool }),
    ...(options.why === undefined ? {} : { status_detail: options.why }),
  };
  const first = await client.queue.get({ ...filter, limit: options.all ? pageMax : countOf(options.limit ?? '20', '--limit', pageMax) });
  if (!options.all) return first;
  const items = [...first.items];
  for (let cursor = first.next_cursor; cursor !== null; ) {
    const page = await client.queue.get({ ...filter, limit: pageMax, cursor });
    items.push(...page.items);
    cursor = page.next_cursor;
  }
  return { ...first, items, next_cursor: null };
}

export const addMove: AddCommand = (program) => {
  program
    .command('move <id>')
    .description('place a task directly before or behind another one that waits, with its priority')
    .option('--before <id>', 'it is to start just before this one')
    .option('--after <id>', 'it is to start just after this one')
    .action(
      act<[id: string], { before?: string; after?: string }>(async (session, { before, after }, text) => {
        const other = before ?? after;
        if (other === undefined || (before !== undefined && after !== undefined))
          throw usageFault('Give either --before or --after with the id of another task.');
        const client = await session.client();
        const [id, neighbour] = [await resolveId(client, text), await resolveId(client, other)];
        const moved = await client.queue.reorder(before === undefined ? { task_id: id, after: neighbour } : { task_id: id, before: neighbour });
        if (session.json) return session.printJson(moved);
        session.terminal.print(`${id}\tmoved ${before === undefined ? 'behind' : 'before'} ${neighbour}, priority ${moved.task.priority}`);
      }),
    );
};

export const addHold: AddCommand = (program) => addHolding(program, 'hold', 'let nothing more of tasks start until they are released', 'held');

export const addRelease: AddCommand = (program) => addHolding(program, 'release', 'let held tasks go on', 'released');

function addHolding(program: Parameters<AddCommand>[0], action: 'hold' | 'release', what: string, done: string): void {
  program
    .command(`${action} <ids...>`)
    .description(what)
    .action(
      act<[ids: string[]], object>(async (session, _options, texts) => {
        const client = await session.client();
        const tasks = [];
        for (const id of await resolveIds(client, texts)) {
          const task = await client.tasks[action](id);
          tasks.push(task);
          if (!session.json) session.terminal.print(`${id}\t${done}`);
        }
        if (session.json) session.printJson({ items: tasks });
      }),
    );
}

interface PauseOptions {
  readonly model?: string;
  readonly host?: string;
  readonly reason?: string;
}

export const addPause: AddCommand = (program) => {
  program
    .command('pause')
    .description('let nothing new start: in the whole queue, for a model, or on a host; what runs goes on')
    .option('--model <name>', 'only for this model')
    .option('--host <id>', 'only on this host')
    .option('--reason <text>', 'what people who look at the queue are told')
    .action(
      act<[], PauseOptions>(async (session, { model, host, reason }) => {
        const pauses = await (await session.client()).queue.pause({ ...targetOf(model, host), ...(reason === undefined ? {} : { reason }) });
        if (session.json) return session.printJson(pauses);
        for (const line of pauseLines(pauses.items)) session.terminal.print(line);
      }),
    );
};

export const addResume: AddCommand = (program) => {
  program
    .command('resume')
    .description('end a pause: of the whole queue, of a model, or of a host')
    .option('--model <name>', 'of this model')
    .option('--host <id>', 'of this host')
    .action(
      act<[], PauseOptions>(async (session, { model, host }) => {
        const pauses = await (await session.client()).queue.resume(targetOf(model, host));
        if (session.json) return session.printJson(pauses);
        session.terminal.print(`${model === undefined && host === undefined ? 'the queue' : visibleLine(model ?? host ?? '')} goes on`);
        for (const line of pauseLines(pauses.items)) session.terminal.note(line);
      }),
    );
};

function targetOf(model: string | undefined, host: string | undefined) {
  if (model !== undefined && host !== undefined) throw usageFault('Give --model or --host, not both.');
  return { ...(model === undefined ? {} : { model }), ...(host === undefined ? {} : { host }) };
}
