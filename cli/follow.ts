import type { Client } from '../client/client.js';
import type { EventView } from '../contract/schemas/event.js';
import type { TaskView } from '../contract/schemas/task.js';
import { exitCodes } from './failure.js';
import type { Session } from './session.js';
import { resultLines } from './task-lines.js';
import type { Terminal } from './terminal.js';
import { visibleLine, visibleText } from './visible.js';

/**
 * Prints what steps write to standard output, and what else happens to standard error. Nothing but what was written goes to a file or a program; on a terminal
 * a line that is still open ends before something else is said.
 */
export function createEventPrinter(terminal: Terminal, { outputOnly }: { readonly outputOnly: boolean }) {
  let open = false;
  const line = (text: string) => {
    if (outputOnly) return;
    if (open && terminal.interactive) terminal.note('');
    open = false;
    terminal.note(terminal.paint('dim', text));
  };
  return {
    event({ kind, at, data }: EventView): void {
      if (kind === 'output' && typeof data['text'] === 'string') {
        const text = visibleText(data['text']);
        if (text === '') return;
        terminal.write(text);
        open = !text.endsWith('\n');
        return;
      }
      line(`${at.slice(11, 19)} ${visibleLine(sentence(kind, data))}`);
    },
    end(): void {
      if (open && terminal.interactive) terminal.write('\n');
      open = false;
    },
  };
}

function sentence(kind: string, data: EventView['data']): string {
  const said = kind === 'grant_lost' ? 'waits for a slot again, since its last one was lost:' : kind.replaceAll('_', ' ');
  const step = typeof data['step'] === 'string' ? ` ${data['step']}` : '';
  if (kind === 'progress') {
    const share = typeof data['done'] === 'number' && typeof data['total'] === 'number' ? ` ${data['done']}/${data['total']}` : '';
    return `${data['step'] ?? ''} ${data['phase'] ?? ''}${share}`.trim();
  }
  const status = typeof data['status'] === 'string' ? ` ${data['status']}` : '';
  const error = data['error'] as { message?: unknown } | undefined;
  return `${said}${step}${status}${typeof error?.message === 'string' ? `: ${error.message}` : ''}`;
}

/** An event as --json prints it: one a line. */
export function printEvent(session: Session, event: EventView, { outputOnly }: { readonly outputOnly: boolean }): void {
  if (!outputOnly || event.kind === 'output') session.printJsonLine(event);
}

/** Shows a task until it has ended; Ctrl-C leaves it running. @returns the ended task */
export async function followTask(session: Session, client: Client, id: string, { outputOnly }: { readonly outputOnly: boolean }): Promise<TaskView> {
  const signal = session.interruptible(leftRunning(id));
  const printer = createEventPrinter(session.terminal, { outputOnly });
  for await (const event of client.tasks.events(id, { signal })) {
    if (session.json) printEvent(session, event, { outputOnly });
    else printer.event(event);
  }
  printer.end();
  return client.tasks.wait(id, { signal });
}

export const leftRunning = (id: string) =>
  `The task goes on without being watched. \`orchestra cancel ${id}\` ends it, \`orchestra logs --follow ${id}\` shows it again.`;

/**
 * Says how a task ended and sets the exit code: 0 completed, 1 failed or cancelled.
 * @param result print its result; false after its events were shown: with --json the task is then the last line of many
 */
export function tellEnd(session: Session, task: TaskView, { result }: { readonly result: boolean }): void {
  if (task.status !== 'completed') process.exitCode = exitCodes.failed;
  if (session.json) {
    if (result) session.printJson(task);
    else session.printJsonLine(task);
    return;
  }
  if (task.status === 'completed') {
    if (result) for (const line of resultLines(task)) session.terminal.print(line);
    else session.terminal.note(`${task.id} completed`);
    return;
  }
  const why =
    task.error === null
      ? ''
      : `: ${visibleLine(task.error.message)} [${visibleLine(task.error.code)}]${task.error.step === null ? '' : ` in step ${visibleLine(task.error.step)}`}`;
  process.stderr.write(`${task.id} ${task.status}${why}\n`);
}
