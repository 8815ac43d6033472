import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import fc from 'fast-check';
import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest';
import { configurePools } from '../../../db/holds.js';
import { migrationsFolder } from '../../../db/migrate.js';
import { createTestDatabase, type TestDatabase } from '../../support/servers.js';
import { createWorld } from './line-world.js';

/** A waiting row whose task, one of several, needs something. */
interface Needing {
  readonly task: number;
  readonly exact: number;
  readonly locks: readonly string[];
  readonly amounts: Readonly<Record<string, number>> | null;
  readonly key?: string | null;
  readonly held?: boolean;
  readonly backsOff?: boolean;
}

let db: TestDatabase;
let world: ReturnType<typeof createWorld>;
beforeAll(async () => {
  db = await createTestDatabase();
  world = createWorld(db.sql);
  // what was answered before the rows that are looked at had a bound
  const before = await readFile(path.join(migrationsFolder(), '00032_given_and_lacking.sql'), 'utf8');
  const [text] = /create or replace function line_needing\([\s\S]*?^end \$\$;/m.exec(before) ?? [];
  const folder = await mkdtemp(path.join(tmpdir(), 'orchestra-needing-'));
  await writeFile(path.join(folder, 'before.sql'), (text ?? '').replace('line_needing', 'line_needing_of_all'));
  await db.sql.file(path.join(folder, 'before.sql'));
  await rm(folder, { recursive: true });
});
afterAll(() => db.drop());
beforeEach(() => world.empty());

/** @param shift turns the order of arrival against the one of the line */
async function enterAll(tasks: readonly string[], rows: readonly Needing[], shift = 0): Promise<void> {
  const entries = rows.map((row, n) => ({ ...row, n, task: tasks[row.task], since: (n * 7919 + shift) % 10_007 }));
  await db.sql`
    insert into line (task_id, attempt, step, try, step_attempt, run_id, pool, key, level, exact, pos, locks, amounts, held, not_before, entered_at)
    select task, 1, 's' || n, 1, 1, 'r', case when key is null then 'general' else 'model' end, key, greatest(1, ceil(exact / 10.0)), exact, n,
      array(select jsonb_array_elements_text(locks)), case when amounts <> 'null' then amounts end, coalesce(held, false),
      case when "backsOff" then now() + interval '1 hour' else '-infinity' end, now() - since * interval '1 second'
    from jsonb_to_recordset(${db.sql.json(entries as never)})
      r (n integer, task uuid, exact integer, locks jsonb, amounts jsonb, key text, held boolean, "backsOff" boolean, since integer)`;
}

const answerOf = async (name: 'line_needing' | 'line_needing_of_all') =>
  db.sql<{ step: string; lacks: boolean }[]>`
    select l.step, n.lacks from ${db.sql(name)}(clock_timestamp(), held_now()) n join line l on l.id = n.id order by l.id`;

/** `a` is taken; `b` and one `gpu` of three by a task that a person has stopped. */
async function someHold(): Promise<string[]> {
  const tasks: string[] = [];
  for (let n = 0; n < 5; n += 1) tasks.push((await world.task()).taskId);
  await configurePools(db.sql, { gpu: 3, cpu: 4 });
  await db.sql`insert into holds (name, task_id, attempt) values ('a', ${tasks[0] ?? ''}, 1), ('b', ${tasks[1] ?? ''}, 1)`;
  await db.sql`insert into allocations (task_id, attempt, pool, amount) values (${tasks[1] ?? ''}, 1, 'gpu', 1), (${tasks[0] ?? ''}, 1, 'cpu', 2)`;
  await db.sql`update tasks set held_at = now() where id = ${tasks[1] ?? ''}`;
  return tasks;
}

test('what a decision sees of a line without a large level is what it saw when it looked at every row [SCHED-23]', { timeout: 120_000 }, async () => {
  const row = fc.record({
    task: fc.nat(4),
    exact: fc.constantFrom(30, 50, 50, 50, 44),
    locks: fc.oneof(
      { weight: 4, arbitrary: fc.constantFrom<readonly string[]>([], ['c']) },
      { weight: 1, arbitrary: fc.constantFrom<readonly string[]>(['a'], ['b', 'c'], ['a', 'c']) },
    ),
    amounts: fc.oneof(
      { weight: 4, arbitrary: fc.constantFrom<Needing['amounts']>(null, { cpu: 1 }) },
      { weight: 1, arbitrary: fc.constantFrom<Needing['amounts']>({ gpu: 3 }, { gpu: 9, cpu: 1 }, { cpu: 3 }, { no: 1 }) },
    ),
    key: fc.constantFrom(null, null, 'paused:1~ctx1', 'other:1~ctx1'),
    held: fc.integer({ min: 0, max: 9 }).map((n) => n === 0),
    backsOff: fc.integer({ min: 0, max: 9 }).map((n) => n === 0),
  });
  let cut = 0;
  await fc.assert(
    fc.asyncProperty(fc.array(row, { maxLength: 450, size: 'max' }), fc.nat(10_006), fc.boolean(), async (rows, shift, paused) => {
      await world.empty();
      await enterAll(await someHold(), rows, shift);
      if (paused) await db.sql`insert into queue_pauses (scope) values ('model:paused:1')`;
      const now = await answerOf('line_needing');
      expect(now).toEqual(await answerOf('line_needing_of_all'));
      if (now.length > 64) cut += 1;
    }),
    { numRuns: 25 },
  );
  expect(cut).toBeGreaterThan(0);
});

test('behind any number of rows that lack something or can never have it, each one is seen soon, and one that lacks is kept in sight [SCHED-23, PERF-06]', async () => {
  const waits = (n: number): Needing => ({ task: 2, exact: 50, locks: n % 2 === 0 ? ['a'] : [], amounts: n % 2 === 0 ? null : { gpu: 9 } });
  const rows = Array.from({ length: 1_800 }, (_, n) => waits(n));
  rows[1_700] = { task: 3, exact: 50, locks: ['free'], amounts: null };
  const tasks = await someHold();
  await enterAll(
    tasks,
    rows.map((each, n) => (n < 1_700 ? { ...each, locks: [], amounts: { gpu: 9 } } : each)),
  );
  await db.sql`update line set entered_at = now() - (2000 - pos) * interval '1 second'`;
  const looks: (readonly { readonly step: string; readonly lacks: boolean }[])[] = [];
  for (let look = 0; look < 8; look += 1) looks.push(await answerOf('line_needing'));
  const sees = (step: string) => looks.map((answer) => answer.some((each) => each.step === step));
  expect(sees('s1700')).toEqual([false, false, false, true, false, false, false, true]);
  expect(sees('s1702')).toEqual([false, false, false, true, true, true, true, true]);
  expect(looks.flat().every(({ step, lacks }) => lacks === (step !== 's1700'))).toBe(true);
  await db.sql`delete from line where step = 's1702'`;
  const later: boolean[] = [];
  for (let look = 0; look < 4; look += 1) later.push((await answerOf('line_needing')).some(({ step }) => step === 's1704'));
  expect(later.at(-1)).toBe(true);
});

test('of a large level the first in order and by arrival are seen as before [SCHED-23]', async () => {
  const rows = Array.from(
    { length: 1_200 },
    (_, n): Needing => ({ task: 2, exact: 50, locks: n % 3 === 0 ? ['a'] : ['c'], amounts: n % 5 === 0 ? { gpu: 9 } : null }),
  );
  await enterAll(await someHold(), rows, 17);
  const before = await answerOf('line_needing_of_all');
  expect(before.length).toBeGreaterThan(100);
  for (let look = 0; look < 3; look += 1) expect(await answerOf('line_needing')).toEqual(expect.arrayContaining([...before]));
});
