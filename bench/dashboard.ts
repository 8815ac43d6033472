import { type ChildProcess, fork } from 'node:child_process';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { type Browser, type CDPSession, chromium, type Page } from 'playwright-core';
import { type ApiProcess, createScratchDatabase, residentMiB, startApiProcess } from './api-process.js';
import { addWaiting } from './backlog-line.js';
import { startBenchInstallation } from './installation.js';
import { seedTasks } from './list.js';
import type { Figure, Section } from './report.js';
import { inUnits, quantile } from './statistics.js';

const loads = 30;
const changes = 30;
/** Minutes for which a page is left open. */
const openMinutes = 30;

/** The dashboard in Chromium while 10,000 steps wait and 100,000 tasks have ended [DASH-13, PERF-04]. */
export function benchDashboard(scale: number): Promise<Section> {
  return besideLine(scale, async (browser, api, method) => ({
    title: 'The dashboard',
    method: `${method} Pages are loaded ${loads} times each with an empty cache, by turns with the one for signing in, which shows what Chromium and this machine take in any case.`,
    peer: 'page for signing in, p50',
    figures: [
      await firstPaint(browser, api, 'queue', '/'),
      await firstPaint(browser, api, 'history', '/history'),
      await firstPaint(browser, api, 'models', '/models'),
      await changeToScreen(browser, api),
    ],
  }));
}

/** What the queue page takes while it is left open for half an hour. */
export function benchOpenPage(scale: number): Promise<Section> {
  return besideLine(scale, async (browser, api, method) => ({
    title: 'A page that is left open',
    method: `${method} The queue is open all the time and follows what happens.`,
    figures: await leftOpen(browser, api, Math.max(1, openMinutes * scale)),
  }));
}

async function besideLine(scale: number, measure: (browser: Browser, api: ApiProcess, method: string) => Promise<Section>): Promise<Section> {
  const [waiting, ended] = [Math.max(500, Math.round(10_000 * scale)), Math.max(1_000, Math.round(100_000 * scale))];
  const installation = await startBenchInstallation({ models: false, env: { LOG_LEVEL: 'ERROR' } });
  const home = await mkdtemp(path.join(tmpdir(), 'dashboard-'));
  const { url, sql, drop } = await createScratchDatabase(installation.databaseUrl, 'dashboard');
  const children: ChildProcess[] = [];
  const browser = await chromium.launch({ executablePath: '/usr/bin/chromium', args: ['--no-sandbox', '--js-flags=--expose-gc'] });
  try {
    await seedTasks(sql, ended);
    await sql`update tasks set status = 'completed', completed_at = now() where status in ('queued', 'running')`;
    await addWaiting(sql, waiting);
    await sql`vacuum (analyze)`; // as autovacuum leaves what has ended over weeks
    children.push(
      fork(path.join(import.meta.dirname, 'backlog-engine.ts'), [url], { execArgv: ['--import', 'tsx'], stdio: ['ignore', 'ignore', 'inherit', 'ipc'] }),
    );
    const api = await startApiProcess(home, url, installation.temporal);
    children.push(api.child);
    while ((await sql`select 1 from forecasts`).length === 0) await delay(100);
    return await measure(
      browser,
      api,
      `Chromium on the same machine as the servers; ${waiting} steps wait, ${ended} tasks have ended, ten steps a second end and as many come.`,
    );
  } finally {
    await browser.close();
    for (const child of children) child.kill('SIGKILL');
    await drop();
    await installation.stop();
    await rm(home, { recursive: true, force: true });
  }
}

async function openPage(browser: Browser, api: ApiProcess, address: string): Promise<Page> {
  const context = await browser.newContext({ viewport: { width: 1_440, height: 900 }, extraHTTPHeaders: { 'X-API-Key': api.headers['x-api-key'] ?? '' } });
  const page = await context.newPage();
  await page.goto(api.address + address);
  return page;
}

/** Asks from outside, since the page's policy lets nobody evaluate text inside it. */
async function until(page: Page, condition: string): Promise<void> {
  while ((await page.evaluate(condition)) !== true) await delay(20);
}

interface Paint {
  readonly paintMs: number;
  /** from the first byte asked for to the last one of the page itself */
  readonly answerMs: number;
}

/** Pages are loaded by turns with the one for signing in, which asks for nothing: what Chromium and this machine take in any case. */
async function firstPaint(browser: Browser, api: ApiProcess, name: string, address: string): Promise<Figure> {
  const [took, floor]: [Paint[], Paint[]] = [[], []];
  for (let round = 0; round < loads; round += 1) {
    took.push(await paintOf(browser, api, address));
    floor.push(await paintOf(browser, api, '/sign-in'));
  }
  const paints = took.map(({ paintMs }) => paintMs);
  const [ours, peer] = [
    quantile(paints, 0.5),
    quantile(
      floor.map(({ paintMs }) => paintMs),
      0.5,
    ),
  ];
  const p95 = quantile(paints, 0.95);
  const answers = took.map(({ answerMs }) => answerMs);
  return {
    ...plain(
      `first paint of the page ${name}, p50 / p95; its answer was there after`,
      `${inUnits(ours)} / ${inUnits(p95)}; ${inUnits(quantile(answers, 0.5))} / ${inUnits(quantile(answers, 0.95))}`,
    ),
    peer: inUnits(peer),
    ratio: (ours / peer).toFixed(2),
    bar: 'under 500 ms',
    met: p95 < 500,
  };
}

async function paintOf(browser: Browser, api: ApiProcess, address: string): Promise<Paint> {
  const page = await openPage(browser, api, address);
  await until(page, "performance.getEntriesByName('first-contentful-paint').length > 0");
  const paintMs = Number(await page.evaluate("performance.getEntriesByName('first-contentful-paint')[0].startTime"));
  const answerMs = Number(await page.evaluate("performance.getEntriesByType('navigation')[0].responseEnd"));
  await page.context().close();
  return { paintMs, answerMs };
}

/** From the call that changes something to the row on the screen that shows it. */
async function changeToScreen(browser: Browser, api: ApiProcess): Promise<Figure> {
  const page = await openPage(browser, api, '/');
  await until(page, "document.getElementById('live').dataset.state === 'live'");
  const took: number[] = [];
  for (let round = 0; round < changes; round += 1) {
    const id = await page.locator('#queue tbody tr[data-task]').nth(20).getAttribute('data-task');
    const startedMs = performance.now();
    const answer = await fetch(`${api.address}/api/v1/tasks/${id}/hold`, { method: 'POST', headers: api.headers });
    if (!answer.ok) continue; // it has started meanwhile
    await until(page, `!document.querySelector('#queue tr[data-task="${id}"]') || document.querySelector('#queue tr[data-task="${id}"] .tag.held') !== null`);
    took.push(performance.now() - startedMs);
    await fetch(`${api.address}/api/v1/tasks/${id}/release`, { method: 'POST', headers: api.headers });
    await delay(500);
  }
  await page.context().close();
  const p95 = quantile(took, 0.95);
  return {
    ...plain(`from a change to the screen, p50 / p95 of ${took.length}`, `${inUnits(quantile(took, 0.5))} / ${inUnits(p95)}`),
    bar: 'under 2 s [DASH-13, PERF-04]',
    met: p95 < 2_000,
  };
}

/** Memory of an open page that follows a queue that never stands still. */
async function leftOpen(browser: Browser, api: ApiProcess, minutes: number): Promise<Figure[]> {
  const page = await openPage(browser, api, '/');
  const session = await page.context().newCDPSession(page);
  const sample = async () => [await heapMiB(session), Number(await page.evaluate("document.querySelectorAll('*').length")), ...(await residentMiB([api.pid]))];
  await delay(10_000); // scripts are compiled, the first redraws are done
  const samples = [await sample()];
  for (let quarter = 0; quarter < 4; quarter += 1) {
    await delay((minutes * 60_000) / 4);
    samples.push(await sample());
  }
  await page.context().close();
  const column = (at: number) => samples.map((each) => each[at] ?? 0);
  const grown = (values: readonly number[]) => (values.at(-1) ?? 0) - (values.at(-2) ?? 0);
  const heap = column(0);
  return [
    {
      ...plain(`heap of a page left open for ${minutes} minutes, at the start and after each quarter`, `${heap.map((mib) => mib.toFixed(1)).join(', ')} MiB`),
      bar: 'the last adds at most 0.5 MiB',
      met: grown(heap) <= 0.5,
    },
    plain('elements of that page', column(1).join(', ')),
    plain('memory of the API meanwhile', `${column(2).join(', ')} MiB`),
  ];
}

async function heapMiB(session: CDPSession): Promise<number> {
  await session.send('HeapProfiler.collectGarbage');
  const { usedSize } = (await session.send('Runtime.getHeapUsage')) as { usedSize: number };
  return usedSize / 1_024 ** 2;
}

function plain(name: string, ours: string): Figure {
  return { name, ours, peer: '', ratio: '', bar: '', met: null };
}
