import { fetch } from 'undici';
import { compareVersions } from './compare-versions.js';
import { parseOllamaAddress } from './ollama-address.js';

/** The version we are tested with, and the one that go.mod beside this file builds. */
export const ollamaVersion = '0.24.0';

/** Older ones leak memory through `/api/create` (CVE-2026-7482) and lack what we ask of a stream. */
export const ollamaVersionMin = '0.17.1';

export interface OllamaSettings {
  /** port on 127.0.0.1 */
  readonly port: number;
  /** where models are kept */
  readonly modelsDir: string;
  /** HOME of the server: it keeps a key there; never the user's own, which may hold one of ollama.com */
  readonly homeDir: string;
  /** models in memory at once, at least 1 */
  readonly maxLoadedModels: number;
  /** inferences at once on one model, at least 1 */
  readonly parallel: number;
}

export interface OllamaCommand {
  readonly file: string;
  readonly args: readonly string[];
  readonly env: Readonly<Record<string, string>>;
  /** the address it will answer at */
  readonly url: string;
}

/** Variables of the surroundings that a server of ours may see: what finds programs and GPUs, and nothing that could be a secret. */
const passedOn = [
  'PATH',
  'LD_LIBRARY_PATH',
  'TMPDIR',
  'TZ',
  'CUDA_VISIBLE_DEVICES',
  'ROCR_VISIBLE_DEVICES',
  'HIP_VISIBLE_DEVICES',
  'GGML_VK_VISIBLE_DEVICES',
  'HSA_OVERRIDE_GFX_VERSION',
  'HTTPS_PROXY',
  'HTTP_PROXY',
  'NO_PROXY',
  'https_proxy',
  'http_proxy',
  'no_proxy',
  'SSL_CERT_FILE',
  'SSL_CERT_DIR',
];

/** How our own Ollama is started: on loopback, without its cloud, with as many models in memory as the engine reckons with. */
export function ollamaCommand(file: string, settings: OllamaSettings, surroundings: Readonly<Record<string, string | undefined>>): OllamaCommand {
  const url = `http://127.0.0.1:${settings.port}`;
  const inherited = Object.fromEntries(passedOn.flatMap((name) => (surroundings[name] === undefined ? [] : [[name, surroundings[name]]])));
  return {
    file,
    args: ['serve'],
    env: {
      ...inherited,
      HOME: settings.homeDir,
      OLLAMA_HOST: url,
      OLLAMA_MODELS: settings.modelsDir,
      OLLAMA_NO_CLOUD: '1',
      OLLAMA_MAX_LOADED_MODELS: String(settings.maxLoadedModels),
      OLLAMA_NUM_PARALLEL: String(settings.parallel),
    },
    url,
  };
}

/**
 * The version of the server at an address; null when none answers within the time, or what answers is no Ollama.
 * @param address `OLLAMA_HOST` in any form
 */
export async function askOllamaVersion(address: string, timeoutMs = 2_000): Promise<string | null> {
  try {
    const { url, authorization } = parseOllamaAddress(address);
    const response = await fetch(`${url}/api/version`, {
      signal: AbortSignal.timeout(timeoutMs),
      redirect: 'error',
      ...(authorization === undefined ? {} : { headers: { authorization } }),
    });
    const body: unknown = await response.json();
    return response.ok && typeof body === 'object' && body !== null && 'version' in body && typeof body.version === 'string' ? body.version : null;
  } catch {
    return null;
  }
}

/** What to say about a server's version: a sentence when it is older than we support, or does not tell, else null. */
export function ollamaVersionWarning(version: string): string | null {
  // Our own builds carry their version.
  if (version === '0.0.0')
    return `Ollama says version 0.0.0, as a build from source does, so whether it is supported is not known; ${ollamaVersionMin} and later are`;
  if (compareVersions(version, ollamaVersionMin) < 0)
    return `Ollama ${version} is older than ${ollamaVersionMin}, the oldest that is supported; install ${ollamaVersion} or later`;
  return null;
}
