import { createHash } from 'node:crypto';
import { readdir, readFile } from 'node:fs/promises';
import path from 'node:path';
import postgres from 'postgres';

const folder = path.join(import.meta.dirname, '..', '..', 'db', 'migrations');

interface Migration {
  readonly file: string;
  readonly text: string;
}

async function readMigrations(): Promise<Migration[]> {
  const files = (await readdir(folder)).filter((file) => file.endsWith('.sql')).toSorted();
  return Promise.all(files.map(async (file) => ({ file, text: await readFile(path.join(folder, file), 'utf8') })));
}

/**
 * The name of a database with every migration applied, to be copied with `create database ... template`.
 * It is named after the migrations' text and made by the first that asks; the others wait for it.
 */
export async function migratedTemplate(adminUrl: string): Promise<string> {
  const migrations = await readMigrations();
  const name = `test_template_${createHash('sha256').update(JSON.stringify(migrations)).digest('hex').slice(0, 16)}`;
  const admin = postgres(adminUrl, { max: 1, onnotice: () => {} });
  try {
    await admin`select pg_advisory_lock(hashtext(${name}))`;
    const [existing] = await admin`select 1 from pg_database where datname = ${name}`;
    if (existing === undefined) await makeTemplate(admin, adminUrl, name, migrations);
    return name;
  } finally {
    await admin.end({ timeout: 5 });
  }
}

async function makeTemplate(admin: postgres.Sql, adminUrl: string, name: string, migrations: readonly Migration[]): Promise<void> {
  const unfinished = `${name}_new`;
  await admin`drop database if exists ${admin(unfinished)} with (force)`;
  await admin`create database ${admin(unfinished)}`;
  const url = new URL(adminUrl);
  url.pathname = `/${unfinished}`;
  await migrate(url.href, migrations);
  await admin`alter database ${admin(unfinished)} rename to ${admin(name)}`;
}

async function migrate(url: string, migrations: readonly Migration[]): Promise<void> {
  const sql = postgres(url, { max: 1, onnotice: () => {} });
  try {
    for (const { text } of migrations) {
      const up = text.split(/^-- Down Migration/m)[0] ?? '';
      await sql.begin((tx) => tx.unsafe(up));
    }
  } finally {
    await sql.end({ timeout: 5 });
  }
}
