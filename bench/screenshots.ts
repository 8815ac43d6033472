import { mkdir } from 'node:fs/promises';
import path from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { pino } from 'pino';
import { type BrowserContext, chromium } from 'playwright-core';
import { createTinyModel, slowToLoadShape } from '../activities/backends/server/tiny-model.js';
import { installRuntime } from '../temporal/runtime.js';
import { type BenchInstallation, startBenchInstallation } from './installation.js';

// `npm run screenshots`: pictures of every page of the dashboard, light and dark, from a real installation that works on real tasks meanwhile. Those that the
// README shows are kept in the repository.
const folder = path.join(import.meta.dirname, '..', 'docs', 'screenshots');
const models = ['llama3.1:8b', 'qwen3:14b', 'gemma3:4b'] as const;
/** What is asked for, in turn. */
const work: readonly { readonly name: string; readonly template: string; readonly priority: number; readonly parameters: object }[] = [
  { name: 'Summarise the release notes', template: 'summarise-document', priority: 5, parameters: { document: 'docs/release-notes.md' } },
  { name: 'Label support tickets, batch 31', template: 'label-tickets', priority: 5, parameters: { batch: '31' } },
  { name: 'Review change 412', template: 'review-changes', priority: 7, parameters: { change: '412' } },
  { name: 'Summarise the board minutes', template: 'summarise-document', priority: 4, parameters: { document: 'minutes/november.md' } },
  { name: 'Label support tickets, batch 32', template: 'label-tickets', priority: 5, parameters: { batch: '32' } },
  { name: 'Summarise the customer call', template: 'summarise-document', priority: 9, parameters: { document: 'calls/2081.md' } },
  { name: 'Review change 415', template: 'review-changes', priority: 6, parameters: { change: '415' } },
  { name: 'Summarise the incident report', template: 'summarise-document', priority: 8, parameters: { document: 'incidents/117.md' } },
];
/** A model that is not there, so that there is an error to look at. */
const failing = {
  name: 'Translate the manual',
  template: 'ollama-inference',
  priority: 5,
  parameters: { model: 'translator:7b', prompt: 'Translate chapter 3.' },
};

installRuntime(pino({ level: 'error' }));
const bench = await startBenchInstallation({
  models: true,
  env: { MODEL_MAX_LOADED: '2', TEMPLATES_DIRECTORY: path.join(import.meta.dirname, 'templates', 'pictures'), MODEL_ALLOW_PULL: 'false' },
});
const browser = await chromium.launch({ executablePath: '/usr/bin/chromium', args: ['--no-sandbox'] });
try {
  await mkdir(folder, { recursive: true });
  const ended = await letWork(bench);
  for (const colorScheme of ['light', 'dark'] as const) {
    const context = await signedIn(bench, await browser.newContext({ viewport: { width: 1_440, height: 900 }, colorScheme }));
    for (const [name, address] of [
      ['queue', '/'],
      ['models', '/models?minutes=15'],
      ['templates', '/templates'],
      ['template', '/templates/review-changes'],
      ['task', `/tasks/${ended}`],
      ['history', '/history'],
      ['trends', '/trends'],
      ['resources', '/resources'],
      ['system', '/system'],
    ] as const) {
      const page = await context.newPage();
      await page.goto(bench.product.api + address);
      await delay(3_000); // the stream is open, the first redraw is done
      await page.screenshot({ path: path.join(folder, `${name}-${colorScheme}.png`) });
      await page.close();
    }
    await context.close();
  }
} finally {
  await browser.close();
  await bench.stop();
}
process.exit(0); // the Temporal runtime keeps the process

/** Lets some tasks end and many wait. @returns the id of one of two steps that has ended */
async function letWork({ sql, post, product }: BenchInstallation): Promise<string> {
  const [host] = await sql<{ address: string }[]>`select address from hosts`;
  // Models that take a moment to load, and write for as long as they are let.
  for (const [index, model] of models.entries()) await createTinyModel(host?.address ?? '', model, { ...slowToLoadShape, endless: true, seed: index + 1 });
  const first: string[] = [];
  let review = '';
  for (let index = 0; index < 2 * work.length; index += 1) {
    const task = work[index % work.length];
    if (task === undefined) continue;
    const { id } = await post(task);
    first.push(id);
    if (task.template === 'review-changes') review = id;
  }
  for (let times = 0; times < 2; times += 1) first.push((await post(failing)).id);
  first.push(
    (
      await post({
        template: 'git-script-execution',
        name: 'Nightly evaluation',
        parameters: { repo_url: product.repository, script_path: 'scripts/evaluate.sh', output_path: 'report.json' },
      })
    ).id,
  );
  while ((await sql`select 1 from tasks where id = any(${first}) and status in ('queued', 'running')`).length > 0) await delay(200);
  for (let index = 0; index < 3 * work.length; index += 1) {
    const task = work[index % work.length];
    if (task !== undefined) await post(task);
  }
  await delay(8_000);
  return review;
}

async function signedIn({ product }: BenchInstallation, context: BrowserContext): Promise<BrowserContext> {
  const answer = await fetch(`${product.api}/api/v1/sign-in-tickets`, { method: 'POST', headers: await product.headers(), body: '{}' });
  const { ticket } = (await answer.json()) as { ticket: string };
  const page = await context.newPage();
  await page.goto(`${product.api}/sign-in#ticket=${ticket}`);
  await page.waitForURL(`${product.api}/`);
  await page.close();
  return context;
}
