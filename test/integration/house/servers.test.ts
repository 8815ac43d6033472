import { Connection } from '@temporalio/client';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { createTestDatabase, eventually, takeNamespace, temporalAddress, type TestDatabase } from '../../support/servers.js';

describe('the servers of a test run', () => {
  let first: TestDatabase;
  let second: TestDatabase;

  beforeAll(async () => {
    [first, second] = await Promise.all([createTestDatabase(), createTestDatabase()]);
  });

  afterAll(async () => {
    await Promise.all([first.drop(), second.drop()]);
  });

  test('each database is migrated and of its own', async () => {
    await first.sql`insert into engines (id, slots, lease_until) values ('only-here', 1, now())`;
    expect(await second.sql`select id from engines`).toEqual([]);
  });

  test('a namespace is given once and is registered at Temporal', async () => {
    const [mine, other] = [takeNamespace(), takeNamespace()];
    expect(other).not.toBe(mine);
    const connection = await Connection.connect({ address: temporalAddress() });
    try {
      const found = await connection.workflowService.describeNamespace({ namespace: mine });
      expect(found.namespaceInfo?.name).toBe(mine);
    } finally {
      await connection.close();
    }
  });

  test('waiting for what never comes fails, and says what was seen last', async () => {
    await expect(eventually(() => false, { timeoutMs: 1 })).rejects.toThrow('the condition returned false');
    await expect(
      eventually(
        () => {
          throw new Error('no such row');
        },
        { timeoutMs: 1 },
      ),
    ).rejects.toThrow('no such row');
  });
});
