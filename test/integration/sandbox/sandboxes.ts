import { readdir, readFile } from 'node:fs/promises';
import { pino } from 'pino';
import { type ProbedSandbox, probeSandbox } from '../../../activities/sandbox/probe-sandbox.js';
import type { RunRequest, SandboxLevel } from '../../../activities/sandbox/sandbox.js';

export const quiet = pino({ level: 'silent' });

/** Every level that this user can have: bubblewrap always, then another user (as root) or limits alone. */
export async function sandboxes(): Promise<ProbedSandbox[]> {
  const strong = await probeSandbox({ setting: 'require', minimum: 'bwrap', log: quiet });
  if (strong.refusal) throw new Error(`these tests need bubblewrap: ${strong.refusal.reason}; ${strong.refusal.remedy}`);
  return [strong, await probeSandbox({ setting: 'off', minimum: 'none', log: quiet })];
}

/** The levels by name, known before any test runs. */
export const levels: readonly SandboxLevel[] = process.getuid?.() === 0 ? ['bwrap', 'uid'] : ['bwrap', 'none'];

export function request(workspace: string, argv: readonly string[], changes: Partial<RunRequest> = {}): RunRequest {
  return {
    argv,
    workspace,
    cwd: '.',
    env: {},
    timeoutMs: 60_000,
    outputBytes: 65_536,
    diskBytes: 100e6,
    memoryBytes: 0,
    signal: new AbortController().signal,
    ...changes,
  };
}

/** Command lines of all processes of this machine that contain a text. */
export async function processesWith(text: string): Promise<string[]> {
  const pids = (await readdir('/proc')).filter((name) => /^\d+$/.test(name) && Number(name) !== process.pid);
  const lines = await Promise.all(pids.map((pid) => readFile(`/proc/${pid}/cmdline`, 'utf8').catch(() => '')));
  return lines.filter((line) => line.includes(text));
}

/** A number of seconds that no other process sleeps, so that a process can be found again. */
export function uniqueSleep(): string {
  return `${900_000 + Math.floor(Math.random() * 99_999)}.${Math.floor(Math.random() * 1e9)}`;
}
