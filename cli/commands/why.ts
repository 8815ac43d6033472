import type { DecisionPage, QueuePage } from '../../client/shapes.js';
import type { TaskView } from '../../contract/schemas/task.js';
import { type AddCommand, act } from '../command.js';
import { relative } from '../moments.js';
import { expectedStart } from '../queue-lines.js';
import { resolveId } from '../resolve-ids.js';
import { countOf } from '../task-filter.js';
import { standing, statusColors } from '../task-lines.js';
import type { Terminal } from '../terminal.js';
import { visibleLine } from '../visible.js';

const decisionsMax = 200;

export const addWhy: AddCommand = (program) => {
  program
    .command('why <id>')
    .description('tell where a task stands: its place, when it starts, what it waits for, and what was decided about it')
    .option('-n, --limit <n>', 'decisions at most', '10')
    .action(
      act<[id: string], { limit?: string }>(async (session, options, text) => {
        const client = await session.client();
        const id = await resolveId(client, text);
        const limit = countOf(options.limit ?? '10', '--limit', decisionsMax);
        const [task, queue, decisions] = await Promise.all([
          client.tasks.get(id),
          client.queue.get({ task_id: [id], limit: 50 }),
          client.queue.decisions({ task_id: id, limit }),
        ]);
        if (session.json) return session.printJson({ task, waits: queue.items, decisions: decisions.items });
        for (const line of whyLines(task, queue.items, decisions.items, session.terminal, Date.now())) session.terminal.print(line);
      }),
    );
};

type Decision = DecisionPage['items'][number];

/** Where a task stands, what each of its steps waits for, and the last decisions about it. */
export function whyLines(
  task: TaskView,
  waits: QueuePage['items'],
  decisions: readonly Decision[],
  { paint }: Pick<Terminal, 'paint'>,
  nowMs: number,
): string[] {
  const lines = [`${paint('bold', task.id)}  ${paint(statusColors[task.status], standing(task))}`];
  for (const entry of waits) {
    lines.push(`${entry.step === null ? '' : `step ${visibleLine(entry.step)}, `}${visibleLine(entry.reason ?? `place ${entry.position}`)}`);
    const [start, end] = [expectedStart(entry, nowMs), entry.estimated_completion_time];
    if (start !== '') lines.push(`  starts ${start}${end === null ? '' : `, the task ends ${relative(end, nowMs)}`}`);
  }
  if (task.error !== null) lines.push(paint('red', `error ${visibleLine(task.error.code)}: ${visibleLine(task.error.message)}`));
  if (decisions.length > 0) lines.push('decisions, the newest first', ...decisions.flatMap((each) => decisionLines(each, nowMs)));
  return lines;
}

function decisionLines({ at, kind, step, model, host, unload, waited_ms: waitedMs, reason, terms, fallback }: Decision, nowMs: number): string[] {
  const what = {
    grant: `a slot${host === null || host === 'general' ? '' : ` on ${host}`}${step === null ? '' : ` for step ${step}`}`,
    residency:
      model === null
        ? `${host ?? ''} keeps what it holds`
        : `${host ?? ''} loads ${model ?? ''}${unload.length === 0 ? '' : ` instead of ${unload.join(', ')}`}`,
    refusal: `${model ?? ''} is refused`,
    deadlock: 'it gives way in a deadlock',
  }[kind];
  const waited = waitedMs === null ? '' : `, after ${seconds(waitedMs)}`;
  return [
    `  ${relative(at, nowMs)}: ${visibleLine(what)}${waited}: ${visibleLine(reason)}`,
    ...terms.map((term) => {
      const bought =
        term.quantum_ms === null ? 'a step of it goes first' : `of ${seconds(term.quantum_ms)} that its load of ${seconds(term.load_ms)} has bought`;
      return `    ${visibleLine(term.model)} had served ${seconds(term.served_ms)} ${bought}`;
    }),
    ...(fallback === null ? [] : [`    ${visibleLine(fallback)}`]),
  ];
}

function seconds(ms: number): string {
  return `${(ms / 1_000).toFixed(1)} s`;
}
