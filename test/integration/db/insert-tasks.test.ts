import { expect, onTestFinished, test } from 'vitest';
import { CreateTask } from '../../../contract/schemas/task.js';
import { connect, disconnect } from '../../../db/connect.js';
import { insertTasks } from '../../../db/tasks.js';
import { newTask } from '../../../service/new-task.js';
import { planOf, planStep } from '../../support/plans.js';
import { createTestDatabase } from '../../support/servers.js';

test('a batch has more time than a statement, since it grows with its tasks, and other statements have their own still', async () => {
  const db = await createTestDatabase();
  const statementTimeoutMs = 400;
  const sql = connect(db.url, { applicationName: 'test', statementTimeoutMs, connectionsMax: 1 });
  onTestFinished(async () => {
    await disconnect(sql);
    await db.drop();
  });
  // Each task takes 50 ms, so that a dozen take longer than a statement may.
  await db.sql`create function slowed() returns trigger language plpgsql as $$ begin perform pg_sleep(0.05); return new; end $$`;
  await db.sql`create trigger slowed before insert on tasks for each row execute function slowed()`;
  const caller = { userId: 'ann', role: 'user', keyId: 'k' } as const;
  const request = CreateTask.parse({ template: 'test' });
  const tasks = Array.from({ length: 12 }, () => newTask(caller, request, planOf(planStep('a')), { dependsOn: [], idempotency: null, queueMax: 100 }));
  const stored = await insertTasks(sql, tasks, { owner: 'ann', queueMax: 100 });
  expect(stored.map(({ outcome }) => outcome)).toEqual(tasks.map(() => 'created'));
  const [setting] = await sql<{ statement_timeout: string }[]>`show statement_timeout`;
  expect(setting?.statement_timeout).toBe(`${statementTimeoutMs}ms`);
});
