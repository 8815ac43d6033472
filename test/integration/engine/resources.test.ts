import { tmpdir } from 'node:os';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { listResources } from '../../../db/holds.js';
import { createResourceTeller } from '../../../engine/resources.js';
import { createTestDatabase, type TestDatabase } from '../../support/servers.js';

let db: TestDatabase;
beforeAll(async () => {
  db = await createTestDatabase();
});
afterAll(() => db.drop());

test('configured pools are told with the first run that succeeds, and not again [CONC-09]', async () => {
  const tell = createResourceTeller({ sql: db.sql, resources: { machine: 'm', diskPath: tmpdir(), pools: { licences: 3 } } });
  const licences = async () => (await listResources(db.sql, null)).find(({ pool }) => pool === 'licences')?.total;
  await db.sql`alter table resource_shares rename to away`;
  await expect(tell()).rejects.toThrow('resource_shares');
  await db.sql`alter table away rename to resource_shares`;
  await tell();
  expect(await licences()).toBe(3);
  await db.sql`update resource_shares set total = 4 where machine = ''`; // by an engine that started later
  await tell();
  expect(await licences()).toBe(4);
});
