import { once } from 'node:events';
import { createReadStream, createWriteStream } from 'node:fs';
import { access, constants, rename, rm, stat } from 'node:fs/promises';
import { dirname } from 'node:path';
import { createInterface } from 'node:readline';
import { type Config, packageVersion } from '../config.js';
import type { Sql } from '../db/connect.js';
import { appliedMigrations, readState, StateRefused, type StateRows, type WrittenState, writeState } from '../db/state.js';
import { createStateWriter, NotAStateDocument, readStateLines, type StateHeader } from '../db/state-document.js';
import { createLogger } from '../logging.js';
import { rebuildTasksUseCase } from '../service/rebuild-tasks.js';
import { onLocalDatabase } from './local-database.js';
import { lazyClient } from './parts.js';
import { livePort } from './process-file.js';
import { StartFault } from './run-main.js';

/** A file that was named and cannot be used; the message is one sentence. */
class FileFault extends Error {
  readonly exitCode: number;

  constructor(message: string, exitCode: 2 | 3) {
    super(message);
    this.exitCode = exitCode;
  }
}

/** Rows of one table that are inserted together. */
const rowsAtOnce = 500;
const bytesAtOnce = 4 * 1024 ** 2;
const statementTimeoutMs = 600_000;

/**
 * `orchestra state export`: everything that the database holds of this installation, as of one moment, as one JSON document.
 * @param file written whole or not at all; undefined or `-`: standard output
 */
export async function runStateExport(file?: string): Promise<void> {
  const toFile = file !== undefined && file !== '-';
  await onState('export', toFile ? () => refuseUnwritable(file) : null, async (_config, sql) => {
    const partial = `${file}.${process.pid}`;
    const out = toFile ? createWriteStream(partial, { mode: 0o600, flags: 'wx' }) : process.stdout;
    const failed = once(out, 'error').then(([error]) => Promise.reject(error as Error));
    failed.catch(() => {});
    const writer = createStateWriter(async (text) => {
      if (!out.write(text)) await Promise.race([once(out, 'drain'), failed]);
    });
    try {
      let rows = 0;
      await writer.begin({ program: packageVersion(), exportedAt: new Date().toISOString(), migrations: await appliedMigrations(sql) });
      await readState(
        sql,
        ({ name }) => writer.table(name),
        async (row) => {
          rows += 1;
          await writer.row(row);
        },
      );
      await writer.end();
      if (!toFile) return;
      const finished = once(out, 'close');
      out.end();
      await Promise.race([finished, failed]);
      await rename(partial, file);
      say(
        `Exported ${rows} rows to ${file}. It holds parameters, results and hashes of keys: keep it as you keep the database. Files below results/ and files/ are not in it.`,
      );
    } catch (error) {
      if (toFile) await rm(partial, { force: true });
      throw error;
    }
  });
}

/**
 * `orchestra state import`: a document of an export into an installation without tasks, all or nothing.
 * @param file `-`: standard input; undefined: no document is named, which is an empty state. A named one that is not there is a mistake; the exit code is 3
 */
export async function runStateImport(file?: string): Promise<void> {
  if (file === undefined) return say('No document is named: the state is empty, and nothing was imported.');
  await onState('import', file === '-' ? null : () => refuseUnreadable(file), async (_config, sql) => {
    const written = await writeState(sql, documentRows(file, await appliedMigrations(sql)));
    say(`Imported ${summary(written)}. Tasks that have not ended go on after their last recorded step.`);
  });
}

/** `orchestra state rebuild`: tasks that Temporal still has and the database has lost. */
export async function runStateRebuild(): Promise<void> {
  await onState('rebuild', null, async (config, sql) => {
    const address = config.temporal.address ?? (await ownTemporal(config));
    const temporal = lazyClient({ ...config, temporal: { ...config.temporal, address } });
    try {
      const counts = await rebuildTasksUseCase({ sql, temporal: temporal.client, log: createLogger({ ...config.logging, level: 'ERROR' }, 'state') })();
      const all = Object.values(counts).reduce((sum, count) => sum + count, 0);
      const { queued, completed, failed, cancelled } = counts;
      say(
        all === 0
          ? 'Every task that Temporal has is in the database.'
          : `Rebuilt ${all} tasks: ${completed} completed (without their results, which were in the database), ${failed} failed, ${cancelled} cancelled, ${queued} queued again.`,
      );
    } finally {
      await temporal.close();
    }
  });
}

const say = (line: string) => void process.stdout.write(`${line}\n`);

/** @throws {FileFault} when there is no such file, or it cannot be read */
async function refuseUnreadable(file: string): Promise<void> {
  try {
    await access(file, constants.R_OK);
    if ((await stat(file)).isDirectory()) throw new FileFault(`${file} is a folder: name the document of an export.`, 2);
  } catch (error) {
    if (error instanceof FileFault) throw error;
    const { code } = error as NodeJS.ErrnoException;
    throw code === 'ENOENT' ? new FileFault(`There is no ${file}.`, 3) : new FileFault(`${file} cannot be read: ${code}.`, 2);
  }
}

/** @throws {FileFault} when nothing can be written in its folder */
async function refuseUnwritable(file: string): Promise<void> {
  const folder = dirname(file);
  await access(folder, constants.W_OK).catch((error: NodeJS.ErrnoException) => {
    throw new FileFault(
      error.code === 'ENOENT' ? `${file} cannot be written: there is no folder ${folder}.` : `${file} cannot be written: ${folder}: ${error.code}.`,
      2,
    );
  });
  const facts = await stat(file).catch(() => null);
  if (facts?.isDirectory()) throw new FileFault(`${file} is a folder: name a file.`, 2);
}

const onState = (command: string, check: (() => Promise<void>) | null, work: (config: Config, sql: Sql) => Promise<void>) =>
  onLocalDatabase(
    {
      name: `state ${command}`,
      connection: { applicationName: 'orchestra-state', connectionsMax: 2, statementTimeoutMs },
      check,
      exitCodeOf: (error) =>
        error instanceof FileFault ? error.exitCode : error instanceof StateRefused || error instanceof NotAStateDocument ? 1 : undefined,
    },
    work,
  );

async function ownTemporal(config: Config): Promise<string> {
  const port = await livePort(config.home, 'temporal');
  if (port === null) throw new StartFault(`No Temporal of this installation runs: start it with \`orchestra up\`, or name one with TEMPORAL_ADDRESS.`);
  return `127.0.0.1:${port}`;
}

/** @throws {StateRefused} when the document was written under another schema */
async function* documentRows(file: string, migrations: readonly string[]): AsyncGenerator<StateRows> {
  const lines = createInterface({ input: file === '-' ? process.stdin : createReadStream(file, 'utf8'), crlfDelay: Number.POSITIVE_INFINITY });
  let table = '';
  let rows: string[] = [];
  let bytes = 0;
  for await (const line of readStateLines(lines)) {
    if ('header' in line) {
      refuseOtherSchema(line.header, migrations);
      continue;
    }
    const full = rows.length >= rowsAtOnce || bytes >= bytesAtOnce;
    if (rows.length > 0 && (full || 'table' in line)) {
      yield { table, rows };
      rows = [];
      bytes = 0;
    }
    if ('table' in line) table = line.table;
    else {
      rows.push(line.row);
      bytes += line.row.length;
    }
  }
  if (rows.length > 0) yield { table, rows };
}

function refuseOtherSchema(header: StateHeader, migrations: readonly string[]): void {
  if (JSON.stringify(header.migrations) === JSON.stringify(migrations)) return;
  throw new StateRefused(
    `The document was written by ${header.program} with the schema ${header.migrations.at(-1) ?? 'none'}, and this database has ${migrations.at(-1) ?? 'none'}: import it with that release, then upgrade.`,
  );
}

function summary(written: WrittenState): string {
  const counts = Object.entries(written).filter(([, count]) => count > 0);
  return counts.length === 0 ? 'an empty state' : counts.map(([table, count]) => `${count} ${table}`).join(', ');
}
