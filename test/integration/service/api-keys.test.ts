import { mkdtemp, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { pino } from 'pino';
import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest';
import { type ApiKeyUseCases, apiKeyUseCases } from '../../../service/api-keys.js';
import { createTestDatabase, type TestDatabase } from '../../support/servers.js';

const log = pino({ level: 'silent' });
let database: TestDatabase;
let keys: ApiKeyUseCases;
let home: string;
beforeAll(async () => {
  database = await createTestDatabase();
  home = await mkdtemp(path.join(tmpdir(), 'keys-'));
});
afterAll(async () => {
  await database.drop();
  await rm(home, { recursive: true });
});
beforeEach(() => {
  keys = apiKeyUseCases({ sql: database.sql, log });
});

const ann = { name: 'laptop', userId: 'ann', role: 'user' as const, expiresAt: null };
const another = () => apiKeyUseCases({ sql: database.sql, log });

test('a key has 32 random bytes as 43 characters, and is stored only as a hash [SEC-02, C13]', async () => {
  const { id, key } = await keys.createKey(ann);
  expect(key).toMatch(new RegExp(`^orc_${id}_[A-Za-z0-9_-]{43}$`));
  const secret = key.slice(-43);
  expect(Buffer.from(secret, 'base64url')).toHaveLength(32);
  const [row] = await database.sql`select row_to_json(api_keys)::text as text from api_keys where id = ${id}`;
  expect(row?.['text']).not.toContain(secret);
  expect(JSON.stringify(await keys.listKeys({ userId: 'ann', role: 'user', keyId: id }))).not.toContain(secret);
});

test('a key says who presents it; one changed character does not [SEC-02, bad-7]', async () => {
  const { id, key } = await keys.createKey(ann);
  expect(await keys.verifyKey(key)).toEqual({ userId: 'ann', role: 'user', keyId: id });
  const changed = key.slice(0, -2) + (key.at(-2) === 'A' ? 'B' : 'A') + key.slice(-1);
  for (const text of [changed, `${key} `, key.toUpperCase(), key.slice(0, -1), '', 'x'.repeat(1_000_000)]) expect(await keys.verifyKey(text)).toBeNull();
});

test('a revoked key is void at once where it was revoked, and everywhere else when nobody has just used it [SEC-02]', async () => {
  const { id, key } = await keys.createKey(ann);
  expect(await keys.verifyKey(key)).not.toBeNull();
  await keys.revokeKey(id);
  expect(await keys.verifyKey(key)).toBeNull();
  expect(await another().verifyKey(key)).toBeNull();
  await keys.revokeKey(id);
  await expect(keys.revokeKey('absent')).rejects.toMatchObject({ code: 'not_found' });
});

test('an expired key is void [SEC-02]', async () => {
  const { key } = await keys.createKey({ ...ann, expiresAt: new Date(Date.now() - 1000) });
  expect(await keys.verifyKey(key)).toBeNull();
});

test('the keys of others are listed only to an administrator [SEC-02]', async () => {
  const { id } = await keys.createKey({ ...ann, userId: 'bob' });
  expect((await keys.listKeys({ userId: 'ann', role: 'user', keyId: 'x' })).map((row) => row.id)).not.toContain(id);
  expect((await keys.listKeys({ userId: 'root', role: 'admin', keyId: 'x' })).map((row) => row.id)).toContain(id);
});

test('the first administrator’s key is made once, in a file that only its owner reads', async () => {
  const file = await keys.ensureAdminKey(home);
  const key = (await readFile(file, 'utf8')).trim();
  expect((await stat(file)).mode & 0o777).toBe(0o600);
  expect(await keys.verifyKey(key)).toMatchObject({ userId: 'admin', role: 'admin' });
  await another().ensureAdminKey(home);
  expect((await readFile(file, 'utf8')).trim()).toBe(key);
});

test('an administrator’s key that the database lost works again; a void or damaged one is replaced', async () => {
  const file = await keys.ensureAdminKey(home);
  const read = async () => (await readFile(file, 'utf8')).trim();
  const first = await read();
  await database.sql`delete from api_keys`;
  await another().ensureAdminKey(home);
  expect(await read()).toBe(first);
  expect(await another().verifyKey(first)).not.toBeNull();
  await keys.revokeKey(first.split('_')[1] as string);
  await another().ensureAdminKey(home);
  const second = await read();
  expect(second).not.toBe(first);
  expect(await another().verifyKey(second)).toMatchObject({ role: 'admin' });
  await writeFile(file, 'damaged');
  await another().ensureAdminKey(home);
  expect(await another().verifyKey(await read())).toMatchObject({ role: 'admin' });
});
