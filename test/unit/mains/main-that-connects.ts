import { connect } from '../../../db/connect.js';
import { runMain } from '../../../mains/run-main.js';

/** A main that asks the PostgreSQL of its argument something, tells what becomes of it, and serves on. */
await runMain('test', async () => {
  const sql = connect(process.argv[2] ?? '', { applicationName: 'test', connectionsMax: 1 });
  const asked = sql`select 1`.then(
    () => 'answered',
    (error: unknown) => `refused: ${String((error as { code?: unknown }).code)}`,
  );
  void asked.then(async (became) => {
    await new Promise((resolve) => setTimeout(resolve, 200)); // nobody hears of a rejection at once
    process.stdout.write(`${became}\n`);
  });
  setInterval(() => {}, 1_000); // it serves
  return { drain: async () => {}, stop: async () => sql.end({ timeout: 0 }) };
});
