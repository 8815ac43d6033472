import { mkdir } from 'node:fs/promises';
import path from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { pino } from 'pino';
import { type BrowserContext, chromium } from 'playwright-core';
import { createTinyModel, tinyShape } from '../activities/backends/server/tiny-model.js';
import { installRuntime } from '../temporal/runtime.js';
import { type BenchInstallation, startBenchInstallation } from './installation.js';

// `npm run screenshots`: pictures of every page of the dashboard, light and dark, from a real installation that works on real tasks meanwhile.
const folder = path.join(import.meta.dirname, '..', 'docs', 'screenshots');
const models = ['llama3.1:8b', 'qwen3:14b', 'gemma3:4b'] as const;
const names = [
  'Summarise the release notes',
  'Label support tickets',
  'Draft the weekly report',
  'Translate the manual',
  'Review pull request 412',
  'Extract invoice fields',
  'Answer: how do I rotate keys?',
  'Classify survey answers',
] as const;

installRuntime(pino({ level: 'error' }));
const bench = await startBenchInstallation({ models: true, env: { MODEL_MAX_LOADED: '1' } });
const browser = await chromium.launch({ executablePath: '/usr/bin/chromium', args: ['--no-sandbox'] });
try {
  await mkdir(folder, { recursive: true });
  const ended = await work(bench);
  for (const colorScheme of ['light', 'dark'] as const) {
    const context = await signedIn(bench, await browser.newContext({ viewport: { width: 1_440, height: 900 }, colorScheme }));
    for (const [name, address] of [
      ['queue', '/'],
      ['models', '/models?minutes=15'],
      ['templates', '/templates'],
      ['template', '/templates/ollama-inference'],
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

/** Lets some tasks end and many wait. @returns the id of one that has ended */
async function work({ sql, post, product }: BenchInstallation): Promise<string> {
  const [host] = await sql<{ address: string }[]>`select address from hosts`;
  for (const [index, model] of models.entries()) await createTinyModel(host?.address ?? '', model, { ...tinyShape, seed: index + 1 });
  const task = (index: number) =>
    post({
      template: 'ollama-inference',
      name: names[index % names.length],
      priority: [5, 5, 8, 3, 5, 10, 5, 2][index % 8],
      parameters: { model: models[index % models.length], prompt: `Write about ${names[index % names.length]}.` },
    });
  const first = [];
  for (let index = 0; index < 16; index += 1) first.push((await task(index)).id);
  await post({
    template: 'git-script-execution',
    name: 'Nightly evaluation',
    parameters: { repo_url: product.repository, script_path: 'scripts/evaluate.sh', output_path: 'report.json' },
  });
  while ((await sql`select 1 from tasks where id = any(${first}) and status in ('queued', 'running')`).length > 0) await delay(200);
  for (const [index, model] of models.entries()) await createTinyModel(host?.address ?? '', model, { ...tinyShape, endless: true, seed: index + 1 });
  for (let index = 0; index < 24; index += 1) await task(index);
  await delay(15_000);
  return first[0] ?? '';
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
