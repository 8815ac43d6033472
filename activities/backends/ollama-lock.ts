import { createHash } from 'node:crypto';
import { link, mkdir, readFile, rename, rm, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { parseOllamaAddress } from './server/ollama-address.js';

/** Who holds an Ollama: a process that lives, known by its pid and the moment it started, since pids are used again. */
interface Holder {
  readonly pid: number;
  /** ticks since boot at which the process started; empty where the system does not tell */
  readonly started: string;
  /** the installation's directory, for the message */
  readonly home: string;
}

export interface OllamaLock {
  readonly file: string;
  /** Gives the Ollama back; a lock that somebody took over meanwhile is left alone. */
  release(): Promise<void>;
}

/** Another installation of this machine uses the same Ollama, so this one runs no model steps. */
export class OllamaInUse extends Error {
  override readonly name = 'OllamaInUse';
}

/** How often the lock is tried when stale ones are in the way; each round removes one. */
const rounds = 5;

/**
 * Takes an Ollama for this process. Two engines that load and unload on one server would undo each other's decisions.
 * A lock whose process has ended is taken over; one of this very process is given again.
 * @param address `OLLAMA_HOST` in any form
 * @param cacheDir common to all installations of this user, such as `~/.cache/ai-task-orchestra`
 * @param home the installation's directory
 * @throws {OllamaInUse} naming the other installation
 */
export async function lockOllama(address: string, cacheDir: string, home: string): Promise<OllamaLock> {
  const { url } = parseOllamaAddress(address);
  const file = path.join(cacheDir, `ollama-${createHash('sha256').update(canonical(url)).digest('hex').slice(0, 16)}.lock`);
  await mkdir(cacheDir, { recursive: true });
  const mine: Holder = { pid: process.pid, started: await startOf(process.pid), home };
  const text = JSON.stringify(mine);
  const draft = `${file}.${process.pid}`;
  await writeFile(draft, text);
  try {
    for (let round = 0; round < rounds; round += 1) {
      // A link is made whole or not at all, so nobody ever reads half a lock.
      if (await linked(draft, file)) return lockOf(file, text);
      const found = await readFile(file, 'utf8').catch(() => null);
      if (found === text) return lockOf(file, text);
      const holder = found === null ? null : parseHolder(found);
      if (holder !== null && (await lives(holder))) {
        throw new OllamaInUse(
          `the Ollama at ${url} is used by another installation (${holder.home}, process ${holder.pid}); stop that one, or give this one its own with OLLAMA_HOST`,
        );
      }
      if (found !== null) await removeIf(file, found);
    }
    throw new OllamaInUse(`the lock of the Ollama at ${url} (${file}) could not be taken; other installations are starting at the same moment`);
  } finally {
    await rm(draft, { force: true });
  }
}

function lockOf(file: string, text: string): OllamaLock {
  return { file, release: () => removeIf(file, text) };
}

/** One server has many spellings. */
function canonical(url: string): string {
  return url.replace('//localhost:', '//127.0.0.1:').replace('//[::1]:', '//127.0.0.1:');
}

async function linked(from: string, to: string): Promise<boolean> {
  try {
    await link(from, to);
    return true;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'EEXIST') return false;
    throw error;
  }
}

/** Removes the lock if it is still this one. Moved aside first: between a look and an unlink another process may have put its own there. */
async function removeIf(file: string, text: string): Promise<void> {
  if ((await readFile(file, 'utf8').catch(() => null)) !== text) return;
  const aside = `${file}.${process.pid}.aside`;
  try {
    await rename(file, aside);
    if ((await readFile(aside, 'utf8')) !== text) await linked(aside, file);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
  } finally {
    await rm(aside, { force: true });
  }
}

function parseHolder(text: string): Holder | null {
  try {
    const value = JSON.parse(text) as Partial<Holder> | null;
    return typeof value?.pid === 'number' && typeof value.started === 'string' ? { pid: value.pid, started: value.started, home: String(value.home) } : null;
  } catch {
    return null;
  }
}

async function lives(holder: Holder): Promise<boolean> {
  try {
    process.kill(holder.pid, 0);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EPERM') return false;
  }
  return (await startOf(holder.pid)) === holder.started;
}

/** Field 22 of /proc/<pid>/stat; the name before it may hold blanks and brackets. */
async function startOf(pid: number): Promise<string> {
  const stat = await readFile(`/proc/${pid}/stat`, 'utf8').catch(() => '');
  return stat.slice(stat.lastIndexOf(')') + 2).split(' ')[19] ?? '';
}
