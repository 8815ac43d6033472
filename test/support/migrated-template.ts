import { createHash } from 'node:crypto';
import { readdir, readFile } from 'node:fs/promises';
import path from 'node:path';
import { pino } from 'pino';
import postgres from 'postgres';
import { migrate, migrationsFolder } from '../../db/migrate.js';

/**
 * The name of a database with every migration applied, to be copied with `create database ... template`.
 * It is named after the migrations' text and made by the first that asks; the others wait for it.
 */
export async function migratedTemplate(adminUrl: string): Promise<string> {
  const name = `test_template_${await digestOf(migrationsFolder())}`;
  const admin = postgres(adminUrl, { max: 1, onnotice: () => {} });
  try {
    await admin`select pg_advisory_lock(hashtext(${name}))`;
    const [existing] = await admin`select 1 from pg_database where datname = ${name}`;
    if (existing === undefined) await makeTemplate(admin, adminUrl, name);
    return name;
  } finally {
    await admin.end({ timeout: 5 });
  }
}

async function digestOf(folder: string): Promise<string> {
  const hash = createHash('sha256');
  for (const file of (await readdir(folder)).toSorted()) hash.update(`${file}\0`).update(await readFile(path.join(folder, file)));
  return hash.digest('hex').slice(0, 16);
}

/** Under another name until it is whole, so that a run that is killed here leaves nothing that looks finished. */
async function makeTemplate(admin: postgres.Sql, adminUrl: string, name: string): Promise<void> {
  const unfinished = `${name}_new`;
  await admin`drop database if exists ${admin(unfinished)} with (force)`;
  await admin`create database ${admin(unfinished)}`;
  const url = new URL(adminUrl);
  url.pathname = `/${unfinished}`;
  await migrate(url.href, pino({ level: 'warn' }));
  await admin`alter database ${admin(unfinished)} rename to ${admin(name)}`;
}
