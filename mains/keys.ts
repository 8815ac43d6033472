import { createLogger } from '../logging.js';
import { ProblemError } from '../contract/problems.js';
import { visibleJson, visibleLine } from '../contract/visible.js';
import type { Role } from '../contract/roles.js';
import { type ApiKeyUseCases, apiKeyUseCases } from '../service/api-keys.js';
import { onLocalDatabase } from './local-database.js';

export interface NewKey {
  readonly user: string;
  readonly role: Role;
  readonly name: string;
  readonly expires: string | null;
  readonly json: boolean;
}

/** `orchestra keys create`: a key for somebody; it is printed this once. */
export async function runKeysCreate({ user, role, name, expires, json }: NewKey): Promise<void> {
  await onKeys('create', async (keys) => {
    if (!/^[A-Za-z0-9._@-]{1,100}$/.test(user)) throw new UsageFault('A user is named by 1 to 100 letters, digits and "._@-".');
    const expiresAt = expires === null ? null : momentOf(expires);
    const made = await keys.createKey({ name, userId: user, role, expiresAt });
    if (json) return say(JSON.stringify({ id: made.id, key: made.key, user, role, expires_at: expiresAt?.toISOString() ?? null }));
    say(made.key);
    process.stderr.write(`Key ${made.id} of ${user}, role ${role}. It is shown this once: keep it, and hand it over by a safe way.\n`);
  });
}

/** `orchestra keys list`: what keys there are, never the keys themselves. */
export async function runKeysList({ json }: { readonly json: boolean }): Promise<void> {
  await onKeys('list', async (keys) => {
    const rows = await keys.listKeys({ userId: 'admin', role: 'admin', keyId: '' });
    const shown = rows.map((row) => ({
      id: row.id,
      user: row.userId,
      role: row.role,
      name: row.name,
      created_at: row.createdAt.toISOString(),
      expires_at: row.expiresAt?.toISOString() ?? null,
      revoked_at: row.revokedAt?.toISOString() ?? null,
      last_used_at: row.lastUsedAt?.toISOString() ?? null,
    }));
    if (json) return say(visibleJson({ items: shown }, 0));
    for (const row of shown) {
      const state = row.revoked_at !== null ? 'revoked' : row.expires_at !== null && Date.parse(row.expires_at) <= Date.now() ? 'expired' : 'valid';
      say([row.id, row.user, row.role, state, visibleLine(row.name), row.last_used_at ?? 'never used'].join('\t'));
    }
  });
}

/** `orchestra keys revoke`: void at once here, within 5 s at every API. */
export async function runKeysRevoke(id: string): Promise<void> {
  await onKeys('revoke', async (keys) => {
    await keys.revokeKey(id);
    say(`The key ${id} is void, within 5 s everywhere.`);
  });
}

/** A mistake of the person at the terminal. */
class UsageFault extends Error {
  override readonly name = 'UsageFault';
}

const say = (line: string) => void process.stdout.write(`${line}\n`);

/** @throws {UsageFault} */
function momentOf(text: string): Date {
  const days = /^(\d{1,5})d$/.exec(text)?.[1];
  const moment = days === undefined ? new Date(text) : new Date(Date.now() + Number(days) * 86_400_000);
  if (Number.isNaN(moment.getTime()) || moment.getTime() <= Date.now() || moment.getFullYear() > 9999)
    throw new UsageFault(`${JSON.stringify(text)} is no time to come: give days such as 90d, or a time such as 2027-01-31T00:00:00Z.`);
  return moment;
}

const onKeys = (command: string, work: (keys: ApiKeyUseCases) => Promise<void>) =>
  onLocalDatabase(
    {
      name: `keys ${command}`,
      connection: { applicationName: 'orchestra-keys', connectionsMax: 1 },
      exitCodeOf: (error) => (error instanceof UsageFault ? 2 : error instanceof ProblemError ? 3 : undefined),
    },
    (config, sql) => work(apiKeyUseCases({ sql, log: createLogger({ ...config.logging, level: 'ERROR' }, 'keys') })),
  );
