import { access, constants, stat } from 'node:fs/promises';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { buildOllama, cachedOllama, type Say, whyNoBuild } from './build-ollama.js';
import { ollamaDefaultPort, parseOllamaAddress } from './ollama-address.js';
import { askOllamaVersion, ollamaVersion, ollamaVersionWarning } from './ollama-command.js';

export interface ProvideOllamaOptions {
  /** OLLAMA_HOST, or null to find or start one */
  readonly address: string | null;
  /** the PATH to look for `ollama` on */
  readonly path: string;
  /** such as `~/.cache/ai-task-orchestra` */
  readonly cacheDir: string;
  /** may a machine without Ollama build one; takes minutes */
  readonly allowBuild: boolean;
  readonly say: Say;
  readonly signal: AbortSignal;
}

/** A server that answers already, an executable to start one of our own with `ollamaCommand`, or why there is none and what to do. */
export type OllamaFound =
  | { readonly kind: 'given' | 'running'; readonly address: string; readonly version: string }
  | { readonly kind: 'path' | 'cache' | 'built'; readonly binary: string }
  | OllamaUnavailable;

export interface OllamaUnavailable {
  readonly kind: 'unavailable';
  /** a sentence */
  readonly reason: string;
  readonly remedy: string;
}

const remedy = `install Ollama ${ollamaVersion} (https://ollama.com/download), or Go 1.26 and a C++ compiler, or set OLLAMA_HOST to a running one`;

/** Finds Ollama, the first way that leads to one: OLLAMA_HOST, a server on port 11434, PATH, our cache. Starts and builds nothing. */
export async function findOllama(options: Omit<ProvideOllamaOptions, 'allowBuild' | 'signal'>): Promise<OllamaFound> {
  const { address, cacheDir, say } = options;
  if (address !== null) {
    const { url } = parseOllamaAddress(address);
    const version = await askOllamaVersion(address, 10_000);
    if (version === null)
      return {
        kind: 'unavailable',
        reason: `no Ollama answers at ${url} (OLLAMA_HOST)`,
        remedy: 'start it, or unset OLLAMA_HOST to have one found or started',
      };
    return answering('given', url, version, 'OLLAMA_HOST names it', say);
  }
  const usual = `http://127.0.0.1:${ollamaDefaultPort}`;
  const running = await askOllamaVersion(usual);
  if (running !== null) return answering('running', usual, running, 'it runs there', say);
  const binary = await findOllamaBinary(options.path, cacheDir);
  if (binary === null)
    return { kind: 'unavailable', reason: `Ollama does not run on port ${ollamaDefaultPort}, is not on the PATH and not in ${cacheDir}`, remedy };
  say(`Ollama: ${binary.binary}, ${binary.kind === 'path' ? 'since it is on the PATH' : 'which an earlier start has built'}`);
  return binary;
}

function answering(kind: 'given' | 'running', address: string, version: string, why: string, say: Say): OllamaFound {
  say(`Ollama: ${address}, version ${version}, since ${why}`);
  const warning = ollamaVersionWarning(version);
  if (warning !== null) say(warning);
  return { kind, address, version };
}

/** The executable on the PATH, else the one in the cache. */
export async function findOllamaBinary(searchPath: string, cacheDir: string): Promise<{ kind: 'path' | 'cache'; binary: string } | null> {
  for (const directory of searchPath.split(path.delimiter)) {
    const binary = path.join(directory, 'ollama');
    if (directory !== '' && (await isExecutable(binary))) return { kind: 'path', binary };
  }
  const cached = cachedOllama(cacheDir);
  return (await isExecutable(cached)) ? { kind: 'cache', binary: cached } : null;
}

/** {@link findOllama}, and where nothing is found and it may, a build. Errors of the build are the reason, never thrown; an abort is. */
export async function findOrBuildOllama(options: ProvideOllamaOptions): Promise<OllamaFound> {
  const found = await findOllama(options);
  if (found.kind !== 'unavailable' || options.address !== null || !options.allowBuild) return found;
  const { cacheDir, say, signal } = options;
  const hindrance = await whyNoBuild(signal);
  if (hindrance !== null) return { kind: 'unavailable', reason: `${found.reason}, and cannot be built: ${hindrance}`, remedy };
  try {
    return { kind: 'built', binary: await buildOllama({ moduleDir: ollamaModuleDirectory(), cacheDir, say, signal }) };
  } catch (error) {
    signal.throwIfAborted();
    return { kind: 'unavailable', reason: `${found.reason}, and its build failed: ${error instanceof Error ? error.message : String(error)}`, remedy };
  }
}

/** The folder of the pinned go.mod: beside this file, or below the package's root when this runs from dist/. */
export function ollamaModuleDirectory(): string {
  const here = path.dirname(fileURLToPath(import.meta.url));
  return here.replace(/\/dist\/(?!.*\/dist\/)/, '/');
}

async function isExecutable(file: string): Promise<boolean> {
  try {
    await access(file, constants.X_OK);
    return (await stat(file)).isFile();
  } catch {
    return false;
  }
}
