import { execFile } from 'node:child_process';
import { mkdir, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { promisify } from 'node:util';

const run = promisify(execFile);

/** What is written of a process of this installation, in `<home>/run/<name>.json`. */
export interface ProcessFile {
  readonly pid: number;
  /** as the system tells it: a number that was given again belongs to another process */
  readonly startTime: string;
  readonly port: number | null;
  /** of what runs there; another one is replaced, not adopted */
  readonly version: string;
}

export function processFilePath(home: string, name: string): string {
  return join(home, 'run', `${name}.json`);
}

/** The file, or null when it is missing or was cut while being written. */
export async function readProcessFile(home: string, name: string): Promise<ProcessFile | null> {
  return readJson<ProcessFile>(processFilePath(home, name));
}

export async function writeProcessFile(home: string, name: string, file: ProcessFile): Promise<void> {
  await writeJson(processFilePath(home, name), file);
}

export async function removeProcessFile(home: string, name: string): Promise<void> {
  await rm(processFilePath(home, name), { force: true });
}

/**
 * When a process started, or null when there is none (one that ended and was not waited for counts as none).
 * The text means nothing but equality.
 */
export async function processStartTime(pid: number): Promise<string | null> {
  try {
    const stat = await readFile(`/proc/${pid}/stat`, 'utf8');
    // The name in parentheses may hold anything, so the fields are counted from its end.
    const after = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
    return after[0] === 'Z' || after[0] === 'X' ? null : (after[19] ?? null);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT' && (error as NodeJS.ErrnoException).code !== 'ESRCH') throw error;
  }
  if (process.platform === 'linux') return null;
  try {
    const { stdout } = await run('ps', ['-o', 'lstart=', '-p', String(pid)]);
    return stdout.trim() || null;
  } catch {
    return null;
  }
}

/** Whether the process that a file tells of still lives. */
export async function isLive(file: Pick<ProcessFile, 'pid' | 'startTime'>): Promise<boolean> {
  return (await processStartTime(file.pid)) === file.startTime;
}

/** Where a server of this home listens, or null when it does not run or listens nowhere. */
export async function livePort(home: string, name: string): Promise<number | null> {
  const file = await readProcessFile(home, name);
  return file !== null && file.port !== null && (await isLive(file)) ? file.port : null;
}

/** What a main that `orchestra up` has started says of itself once it serves; `up` waits for it. One that was started alone leaves the file to the other. */
export interface Readiness {
  readonly pid: number;
  readonly port: number | null;
}

export async function markReady(home: string, name: string, port: number | null): Promise<void> {
  await writeJson(join(home, 'run', `${name}.ready`), { pid: process.pid, port } satisfies Readiness);
}

/** Takes back what an earlier process of this name has said. */
export async function clearReady(home: string, name: string): Promise<void> {
  await rm(join(home, 'run', `${name}.ready`), { force: true });
}

export async function readReadiness(home: string, name: string): Promise<Readiness | null> {
  return readJson<Readiness>(join(home, 'run', `${name}.ready`));
}

async function readJson<T>(path: string): Promise<T | null> {
  try {
    return JSON.parse(await readFile(path, 'utf8')) as T;
  } catch {
    return null;
  }
}

async function writeJson(path: string, value: object): Promise<void> {
  await mkdir(dirname(path), { recursive: true });
  const temporary = `${path}.${process.pid}`;
  await writeFile(temporary, `${JSON.stringify(value)}\n`);
  await rename(temporary, path);
}
