import type { CheckpointDetailView, CheckpointView } from '../../contract/schemas/checkpoint.js';
import { type AddCommand, act } from '../command.js';
import { moment } from '../moments.js';
import { countOf } from '../task-filter.js';
import { type Column, printTable } from '../terminal.js';

const columns = (nowMs: number): readonly Column<CheckpointView>[] => [
  { title: 'ID', value: ({ id }) => String(id) },
  { title: 'NAME', value: ({ name }) => name ?? '', flexible: true },
  { title: 'CREATED', value: ({ created_at }) => moment(created_at, nowMs), plain: ({ created_at }) => created_at },
  { title: 'TASKS', value: ({ tasks }) => String(tasks) },
];

const queueColumns: readonly Column<CheckpointDetailView['content']['queue'][number]>[] = [
  { title: 'ID', value: ({ task_id: id }) => id },
  { title: 'NAME', value: ({ name }) => name, flexible: true },
  { title: 'STATUS', value: ({ status }) => status },
  { title: 'PRIORITY', value: ({ priority }) => String(priority) },
  { title: 'WAITS FOR', value: ({ depends_on: parents }) => parents.join(' '), flexible: true },
];

export const addCheckpoint: AddCommand = (program) => {
  const checkpoint = program.command('checkpoint').description('the state of the queue, to go back to');
  checkpoint
    .command('create')
    .description('keep the present queue, its order and dependencies, and the templates')
    .option('--name <text>', 'what to call it')
    .action(
      act<[], { name?: string }>(async (session, { name }) => {
        const made = await (await session.client()).checkpoints.create(name === undefined ? {} : { name });
        if (session.json) session.printJson(made);
        else session.terminal.print(String(made.id));
      }),
    );
  checkpoint
    .command('list')
    .description('list the checkpoints, newest first')
    .action(
      act<[], object>(async (session) => {
        const list = await (await session.client()).checkpoints.list();
        if (session.json) session.printJson(list);
        else printTable(session.terminal, columns(Date.now()), list.items);
      }),
    );
  checkpoint
    .command('show <id>')
    .description('show the queue as it was kept')
    .action(
      act<[id: string], object>(async (session, _options, id) => {
        const kept = await (await session.client()).checkpoints.get(countOf(id, 'checkpoint', 999_999));
        if (session.json) return session.printJson(kept);
        printTable(session.terminal, queueColumns, kept.content.queue);
      }),
    );
  checkpoint
    .command('restore <id>')
    .description('give its tasks the place, priority and dependencies that they had')
    .action(
      act<[id: string], object>(async (session, _options, id) => {
        const restored = await (await session.client()).checkpoints.restore(countOf(id, 'checkpoint', 999_999));
        if (session.json) return session.printJson(restored);
        for (const { task_id, outcome } of restored.tasks) session.terminal.print(`${task_id}\t${outcome.replaceAll('_', ' ')}`);
        for (const { name, outcome } of restored.definitions) if (outcome !== 'unchanged') session.terminal.note(`template ${name} is ${outcome}`);
      }),
    );
};
