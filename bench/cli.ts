import { spawnSync } from 'node:child_process';
import path from 'node:path';
import type { Section } from './report.js';
import { median } from './statistics.js';

const barMs = 300;
const main = path.join(import.meta.dirname, '..', 'dist', 'cli', 'main.js');

/** What the command line takes to start, beside Node that starts and ends; the built program, taking turns. */
export async function benchCli(scale: number): Promise<Section> {
  const rounds = Math.max(5, Math.round(40 * scale));
  const took: Record<string, number[]> = { node: [], version: [], help: [], refused: [] };
  for (let round = 0; round < rounds; round += 1) {
    took['node']?.push(timed(['-e', '0'], 0));
    took['version']?.push(timed([main, 'version'], 0));
    took['help']?.push(timed([main, 'submit', '--help'], 0));
    // The whole way of a command to the API, which nobody serves there.
    took['refused']?.push(timed([main, '--api', 'http://127.0.0.1:9', 'list', '--limit', '1'], 4));
  }
  const [node, version, help, refused] = ['node', 'version', 'help', 'refused'].map((name) => median(took[name] ?? []));
  const row = (name: string, ms = 0, bounded = true) => ({
    name,
    ours: `${ms.toFixed(0)} ms`,
    peer: `${node?.toFixed(0)} ms`,
    ratio: (ms / (node ?? 1)).toFixed(1),
    bar: bounded ? `under ${barMs} ms` : '',
    met: bounded ? ms < barMs : null,
  });
  return {
    title: 'The command line',
    peer: '`node -e 0`',
    method: `\`orchestra\` as built, started ${rounds} times in turn with Node alone; medians, from the start of the process to its end.`,
    figures: [row('orchestra version', version), row('orchestra submit --help', help), row('orchestra list, to the refusal of the connection', refused, false)],
  };
}

function timed(args: readonly string[], code: number): number {
  const startedMs = performance.now();
  const { status, stderr } = spawnSync(process.execPath, args, { env: { PATH: process.env['PATH'], ORCHESTRA_KEY: 'none' }, encoding: 'utf8' });
  if (status !== code) throw new Error(`${args.join(' ')} ended with ${status}: ${stderr}`);
  return performance.now() - startedMs;
}
