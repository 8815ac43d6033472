import { access, copyFile, mkdir, readFile, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { type TemporalFacts, chooseTemporal, compareVersions, serverVersionMin } from './choose-temporal.js';
import { type Say, buildTemporal, cachedTemporal, downloadTemporal, findOnPath, goVersion } from './obtain-temporal.js';
import { askServerVersion, examineBinary } from './server-version.js';
import { temporalFile } from './temporal-command.js';

/** No Temporal server can be had; the message is one sentence with the remedy. */
export class TemporalUnavailable extends Error {
  override readonly name = 'TemporalUnavailable';
}

export interface ProvideTemporalOptions {
  /** TEMPORAL_ADDRESS, or null to have our own server */
  readonly address: string | null;
  /** the PATH to look for `temporal` on */
  readonly path: string;
  /** such as `~/.cache/ai-task-orchestra` */
  readonly cacheDir: string;
  readonly say: Say;
}

/** A running server of somebody else, or an executable to start one of our own with `temporalCommand`. */
export type TemporalProvision =
  | { readonly kind: 'foreign'; readonly address: string; readonly serverVersion: string }
  | { readonly kind: 'own'; readonly binary: string; readonly serverVersion: string };

/**
 * Finds, fetches or builds a Temporal server, the first way that leads to one: TEMPORAL_ADDRESS, PATH, cache, download, Go.
 * A foreign server that does not answer is not waited for: its version is then asked by the mains when they connect.
 * @throws {TemporalUnavailable}
 */
export async function provideTemporal({ address, path, cacheDir, say }: ProvideTemporalOptions): Promise<TemporalProvision> {
  let facts: TemporalFacts = { address };
  for (;;) {
    const choice = chooseTemporal(facts);
    switch (choice.kind) {
      case 'foreign': {
        const serverVersion = await foreignVersion(choice.address);
        say(`Temporal: ${choice.address}, server ${serverVersion}, since ${choice.why}`);
        return { kind: 'foreign', address: choice.address, serverVersion };
      }
      case 'binary':
        say(`Temporal: ${choice.path}, since ${choice.why}`);
        return { kind: 'own', binary: choice.path, serverVersion: choice.serverVersion };
      case 'look':
        facts = { ...facts, ...(await look(choice.at, path, cacheDir)) };
        break;
      case 'download':
        say(`Temporal: ${choice.why}`);
        facts = { ...facts, ...(await attempt('downloadFault', () => downloadTemporal(cacheDir, say), cacheDir)) };
        break;
      case 'build':
        say(`Temporal: ${choice.why}`);
        facts = { ...facts, ...(await attempt('buildFault', () => buildTemporal(moduleDirectory(), cacheDir, say), cacheDir)) };
        break;
      case 'none':
        throw new TemporalUnavailable(`${choice.why}; ${choice.remedy}.`);
    }
  }
}

async function foreignVersion(address: string): Promise<string> {
  let serverVersion: string;
  try {
    serverVersion = await askServerVersion(address, 10_000);
  } catch (error) {
    throw new TemporalUnavailable(
      `The Temporal server at ${address} (TEMPORAL_ADDRESS) does not answer: start it, or unset TEMPORAL_ADDRESS to have one started.`,
      { cause: error },
    );
  }
  if (compareVersions(serverVersion, serverVersionMin) < 0) {
    throw new TemporalUnavailable(
      `The Temporal server at ${address} is ${serverVersion}; ${serverVersionMin} or later is needed: upgrade it, or unset TEMPORAL_ADDRESS to have one started.`,
    );
  }
  return serverVersion;
}

async function look(at: 'path' | 'cache' | 'go', path: string, cacheDir: string): Promise<Partial<TemporalFacts>> {
  switch (at) {
    case 'path': {
      const found = await findOnPath('temporal', path);
      return { onPath: found === null ? null : await examineBinary(found, cacheDir) };
    }
    case 'cache':
      return { cached: (await exists(cachedTemporal(cacheDir))) ? await examineBinary(cachedTemporal(cacheDir), cacheDir) : null };
    case 'go':
      return { go: await goVersion() };
  }
}

async function attempt(fault: 'downloadFault' | 'buildFault', obtain: () => Promise<string>, cacheDir: string): Promise<Partial<TemporalFacts>> {
  try {
    const cached = await examineBinary(await obtain(), cacheDir);
    return 'fault' in cached ? { cached, [fault]: cached.fault } : { cached, [fault]: `it is server ${cached.serverVersion}` };
  } catch (error) {
    return { [fault]: error instanceof Error ? error.message : String(error) };
  }
}

async function exists(file: string): Promise<boolean> {
  try {
    await access(file);
    return true;
  } catch {
    return false;
  }
}

/** The folder of the pinned go.mod: beside this file, or below the package's root when this runs from dist/. */
export function moduleDirectory(): string {
  const here = dirname(fileURLToPath(import.meta.url));
  return here.includes('/dist/') ? here.replace(/\/dist\/(?!.*\/dist\/)/, '/') : here;
}

/**
 * Looks whether the server's file may be opened by this server: start-dev only creates its tables and never migrates them.
 * Call before each start of our own server; it records which server the file belongs to.
 * @param directory of the server's file
 * @throws {TemporalUnavailable} when another minor version wrote the file; a copy is kept beside it
 */
export async function claimTemporalFile(directory: string, serverVersion: string): Promise<void> {
  await mkdir(directory, { recursive: true });
  const record = join(directory, 'server.json');
  const minor = serverVersion.split('.').slice(0, 2).join('.');
  if (await exists(temporalFile(directory))) {
    let writer: string;
    try {
      writer = (JSON.parse(await readFile(record, 'utf8')) as { serverVersion: string }).serverVersion;
    } catch {
      writer = 'an unknown version';
    }
    if (writer.split('.').slice(0, 2).join('.') !== minor) {
      const copy = `${temporalFile(directory)}.${writer.replaceAll(' ', '-')}.bak`;
      if (!(await exists(copy))) await copyFile(temporalFile(directory), copy);
      throw new TemporalUnavailable(
        `${temporalFile(directory)} was written by Temporal server ${writer} and ${serverVersion} does not convert it: start the older server, or remove the file (a copy is kept as ${copy}), after which tasks go on from their last recorded step.`,
      );
    }
  }
  await writeFile(record, JSON.stringify({ serverVersion }));
}
