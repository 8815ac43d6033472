import { basename, join, sep } from 'node:path';
import { endProcesses, type RunningProcess } from '../../../running-processes.js';

/**
 * Which processes are runners that hold a model of this folder for no server: each Ollama starts its own, and nothing else would ever end them.
 * @param modelsDir absolute, as the server was given it
 */
export function orphanRunners(processes: readonly RunningProcess[], modelsDir: string): number[] {
  const servers = new Set(processes.filter(({ args }) => isOllama(args) && args[1] === 'serve').map(({ pid }) => pid));
  return processes
    .filter(({ args, parentPid }) => isOllama(args) && args[1] === 'runner' && modelOf(args)?.startsWith(join(modelsDir, sep)) && !servers.has(parentPid))
    .map(({ pid }) => pid);
}

/** Ends the orphaned runners of this folder at once and returns, when they are gone, how many there were. Without a Linux /proc it finds none. */
export function endOrphanRunners(modelsDir: string): Promise<number> {
  return endProcesses((processes) => orphanRunners(processes, modelsDir));
}

function isOllama(args: readonly string[]): boolean {
  return basename(args[0] ?? '').startsWith('ollama');
}

function modelOf(args: readonly string[]): string | undefined {
  const at = args.indexOf('--model');
  return at === -1 ? undefined : args[at + 1];
}
