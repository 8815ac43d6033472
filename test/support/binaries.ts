import { access, constants } from 'node:fs/promises';
import { homedir } from 'node:os';
import path from 'node:path';

/** The servers that tests start themselves: the variable that names a file, and where the product's cache has one. */
const servers = {
  temporal: { variable: 'TEMPORAL_BINARY', cached: 'temporal-1.8.2/temporal' },
  ollama: { variable: 'OLLAMA_BINARY', cached: 'ollama-0.24.0/ollama' },
} as const;

async function isExecutable(file: string): Promise<boolean> {
  return access(file, constants.X_OK).then(
    () => true,
    () => false,
  );
}

/**
 * The file of a server: the one the environment names, else one on PATH, else the product's cache.
 * @throws when there is none, saying what to do
 */
export async function findBinary(name: keyof typeof servers): Promise<string> {
  const { variable, cached } = servers[name];
  const named = process.env[variable];
  if (named) {
    if (await isExecutable(named)) return named;
    throw new Error(`${variable} names ${named}, which is no executable file.`);
  }
  const onPath = (process.env['PATH'] ?? '').split(path.delimiter).filter(Boolean);
  for (const file of [...onPath.map((folder) => path.join(folder, name)), path.join(homedir(), '.cache', 'ai-task-orchestra', cached)]) {
    if (await isExecutable(file)) return file;
  }
  throw new Error(`No ${name} was found: not on PATH and not in ~/.cache/ai-task-orchestra. \`npm test\` fetches or builds it.`);
}
