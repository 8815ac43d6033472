import { pause } from '../../client/transport.js';
import { type AddCommand, act } from '../command.js';
import { overviewLines } from '../queue-lines.js';
import type { Session } from '../session.js';
import { countOf } from '../task-filter.js';

const headMax = 100;

export const addTop: AddCommand = (program) => {
  program
    .command('top')
    .description('watch the hosts, what runs and what starts next; q ends it')
    .option('--every <seconds>', 'how often it is drawn anew', '1')
    .action(
      act<[], { every: string }>(async (session, { every }) => {
        const everyMs = countOf(every, '--every', 3_600) * 1_000;
        const client = await session.client();
        const look = async (signal?: AbortSignal) => {
          const [queue, models] = await Promise.all([client.queue.get({ limit: headMax, ...(signal && { signal }) }), client.models.list({ signal })]);
          return { queue, models };
        };
        if (session.json) return session.printJson(await look());
        const { terminal } = session;
        if (!terminal.interactive) {
          for (const line of overviewLines(await look(), terminal, { columns: Number.POSITIVE_INFINITY, rows: 40 }, Date.now())) terminal.print(line);
          return;
        }
        await watch(session, everyMs, async (signal) => overviewLines(await look(signal), terminal, windowSize(), Date.now()));
      }),
    );
};

/** A terminal that does not tell its size says 0. */
const windowSize = () => ({ columns: process.stdout.columns || 80, rows: process.stdout.rows || 24 });

/** Draws the same window again and again on the terminal's second screen, until q or Ctrl-C; then the first one is there as it was. */
async function watch({ terminal }: Session, everyMs: number, draw: (signal: AbortSignal) => Promise<string[]>): Promise<void> {
  const ending = new AbortController();
  const end = () => ending.abort();
  const { stdin } = process;
  const onKey = (key: Buffer) => {
    if (key.includes('q') || key.includes(3)) end();
  };
  process.once('SIGINT', end);
  process.once('SIGTERM', end);
  if (stdin.isTTY) stdin.setRawMode(true).on('data', onKey).resume();
  // What does not fit is cut by the terminal: a line that went on in the next row would push the first ones out of the window.
  terminal.write('\x1b[?1049h\x1b[?25l\x1b[?7l');
  try {
    while (!ending.signal.aborted) {
      const lines = (await draw(ending.signal)).slice(0, windowSize().rows - 1);
      terminal.write(`\x1b[H${lines.map((line) => `\x1b[2K${line}\n`).join('')}\x1b[J`);
      await pause(everyMs, ending.signal);
    }
  } catch (error) {
    if (!ending.signal.aborted) throw error;
  } finally {
    terminal.write('\x1b[?7h\x1b[?25h\x1b[?1049l');
    if (stdin.isTTY) stdin.setRawMode(false).off('data', onKey).pause();
    process.off('SIGINT', end).off('SIGTERM', end);
  }
}
