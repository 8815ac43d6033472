import { existsSync } from 'node:fs';
import { statfs } from 'node:fs/promises';
import { availableParallelism, release, totalmem } from 'node:os';
import { dirname } from 'node:path';
import { parseOllamaAddress } from '../activities/backends/server/ollama-address.js';
import { askOllamaVersion } from '../activities/backends/server/ollama-command.js';
import { findOllamaBinary } from '../activities/backends/server/provide-ollama.js';
import { probeSandbox } from '../activities/sandbox/probe-sandbox.js';
import { type Config, ConfigFault, loadConfig, packageVersion } from '../config.js';
import { postgresAnswers, withoutPassword } from '../db/server/provide-postgres.js';
import { createLogger } from '../logging.js';
import { serverVersionMin } from '../temporal/server/choose-temporal.js';
import { cachedTemporal, findOnPath, goVersion } from '../temporal/server/obtain-temporal.js';
import { askServerVersion } from '../temporal/server/server-version.js';

interface Finding {
  readonly ok: boolean;
  readonly part: string;
  readonly what: string;
}

/** Room for the servers that a first start may build, and a small model. */
const diskBytesMin = 5e9;

/** `orchestra doctor`: what `up` would find here; starts and changes nothing. Exit code 1 when something would be missing. */
export async function runDoctor({ json = false }: { readonly json?: boolean } = {}): Promise<void> {
  const found: Finding[] = [];
  const show = (finding: Finding) => {
    found.push(finding);
    if (!json) process.stdout.write(`${finding.ok ? 'ok     ' : 'missing'} ${finding.part.padEnd(14)} ${finding.what}\n`);
  };
  await examine(show);
  if (json) process.stdout.write(`${JSON.stringify({ ok: found.every(({ ok }) => ok), findings: found }, null, 2)}\n`);
  if (process.exitCode === undefined && found.some(({ ok }) => !ok)) process.exitCode = 1;
}

async function examine(show: (finding: Finding) => void): Promise<void> {
  let config: Config;
  try {
    config = loadConfig();
  } catch (error) {
    if (!(error instanceof ConfigFault)) throw error;
    show({ ok: false, part: 'configuration', what: error.message });
    process.exitCode = 2;
    return;
  }
  const machine = `${process.platform} ${release()}, ${availableParallelism()} processors, ${Math.round(totalmem() / 1e9)} GB`;
  show({ ok: true, part: 'version', what: `${packageVersion()}, Node ${process.version}, ${machine}` });
  show({ ok: true, part: 'configuration', what: `config/${config.environment}.yaml, home ${config.home}` });
  const findings = await Promise.all([disk(config), git(config), postgres(config), temporal(config), ollama(config), sandbox(config)]);
  findings.forEach(show);
}

async function disk({ home }: Config): Promise<Finding> {
  let folder = home;
  while (!existsSync(folder) && folder !== dirname(folder)) folder = dirname(folder);
  const { bavail, bsize } = await statfs(folder);
  const free = bavail * bsize;
  const what = `${(free / 1e9).toFixed(1)} GB free below ${folder}`;
  return { ok: free >= diskBytesMin, part: 'disk', what: free >= diskBytesMin ? what : `${what}: make room, or name another folder with ORCHESTRA_HOME` };
}

async function git({ path }: Config): Promise<Finding> {
  const found = await findOnPath('git', path);
  return { ok: found !== null, part: 'git', what: found ?? 'not on the PATH: install it, or tasks that clone a repository fail' };
}

async function postgres({ database: { url } }: Config): Promise<Finding> {
  const part = 'PostgreSQL';
  if (url === null) return { ok: true, part, what: 'the embedded one' };
  const ok = await postgresAnswers(url);
  return { ok, part, what: `${withoutPassword(url)} ${ok ? 'answers' : 'does not answer'}` };
}

async function temporal({ temporal: { address }, path, cacheDir }: Config): Promise<Finding> {
  const part = 'Temporal';
  if (address !== null) {
    try {
      return { ok: true, part, what: `${address}, server ${await askServerVersion(address, 5_000)} (${serverVersionMin} or later is needed)` };
    } catch {
      return { ok: false, part, what: `${address} (TEMPORAL_ADDRESS) does not answer` };
    }
  }
  const found = (await findOnPath('temporal', path)) ?? (await findOnPath('temporal', dirname(cachedTemporal(cacheDir))));
  if (found !== null) return { ok: true, part, what: found };
  const go = await goVersion();
  return { ok: true, part, what: `to be downloaded${go === null ? '; Go, to build it otherwise, is not installed' : `, or built with Go ${go}`}` };
}

async function ollama({ models: { address }, path, cacheDir }: Config): Promise<Finding> {
  const part = 'Ollama';
  const { url } = parseOllamaAddress(address ?? '');
  const version = await askOllamaVersion(url);
  if (version !== null) return { ok: true, part, what: `${url}, version ${version}` };
  const found = address === null ? await findOllamaBinary(path, cacheDir) : null;
  if (found !== null) return { ok: true, part, what: found.binary };
  return {
    ok: false,
    part,
    what: `${url} does not answer; tasks with models wait until one does. The start builds one where Go and a C++ compiler are installed; else install Ollama, or name one with OLLAMA_HOST`,
  };
}

async function sandbox(config: Config): Promise<Finding> {
  const part = 'sandbox';
  const quiet = createLogger(config.logging, 'doctor', []);
  const found = await probeSandbox({ setting: config.isolation.sandbox, minimum: config.isolation.minimum, log: quiet });
  if (found.refusal !== null) return { ok: false, part, what: `${found.refusal.reason}; ${found.refusal.remedy}` };
  return { ok: true, part, what: `scripts run at level ${found.level}` };
}
