import { readFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import type { AddressInfo } from 'node:net';
import { type Browser, type BrowserContext, chromium, type Page } from 'playwright-core';
import { listen } from '../../../api/server.js';
import { serveDashboard } from '../../../dashboard/serve-dashboard.js';
import { type ApiUnderTest, apiUnderTest, silent } from '../api/api-under-test.js';

export interface DashboardUnderTest {
  readonly api: ApiUnderTest;
  /** without a slash at its end */
  readonly url: string;
  /** A page of somebody who has signed in, by the name of their key; what its scripts throw or the browser refuses is in `faults`. */
  open(who: keyof ApiUnderTest['keys'] | null, path: string, options?: OpenOptions): Promise<OpenPage>;
  stop(): Promise<void>;
}

export interface OpenOptions {
  /** pixels; default 1440 */
  readonly width?: number;
  readonly dark?: boolean;
  /** default true */
  readonly scripts?: boolean;
}

export interface OpenPage {
  readonly page: Page;
  /** what went wrong in the browser: thrown by scripts, or refused by the policy of the page */
  readonly faults: readonly string[];
  close(): Promise<void>;
}

/** The API and the dashboard on a port, without an engine, and Chromium to look at it. */
export async function dashboardUnderTest(overrides: Parameters<typeof apiUnderTest>[0] = {}): Promise<DashboardUnderTest> {
  const api = await apiUnderTest(overrides);
  serveDashboard(api.app);
  const server = await listen(api.app, { hostname: '127.0.0.1', port: 0, log: silent });
  const browser: Browser = await chromium.launch({ executablePath: '/usr/bin/chromium', args: ['--no-sandbox'] });
  const url = `http://127.0.0.1:${server.port satisfies AddressInfo['port']}`;
  return {
    api,
    url,
    async open(who, path, { width = 1_440, dark = false, scripts = true } = {}) {
      const context: BrowserContext = await browser.newContext({
        viewport: { width, height: 900 },
        colorScheme: dark ? 'dark' : 'light',
        javaScriptEnabled: scripts,
        extraHTTPHeaders: who === null || !scripts ? {} : { 'X-API-Key': api.keys[who] },
      });
      const page = await context.newPage();
      page.setDefaultTimeout(15_000);
      const faults: string[] = [];
      page.on('pageerror', (error) => faults.push(error.message));
      page.on('console', (message) => {
        if (message.type() === 'error') faults.push(message.text());
      });
      if (who === null || scripts) await page.goto(url + path);
      else await signInWithout(page, `${url}/sign-in?to=${encodeURIComponent(path)}`, api.keys[who]);
      return { page, faults, close: () => context.close() };
    },
    async stop() {
      await browser.close();
      await api.services.endStreams();
      await server.close(0);
      await api.stop();
    },
  };
}

/** Answers the question that the page asks. @returns what it asks */
export async function answerQuestion(page: Page, answer: 'yes' | 'no'): Promise<string> {
  const question = page.locator('dialog.question');
  await question.waitFor();
  const asked = (await question.textContent()) ?? '';
  await question.locator(`button[value="${answer}"]`).click();
  await question.waitFor({ state: 'detached' });
  return asked;
}

/** Through the form, as everybody does who has no scripts. */
async function signInWithout(page: Page, address: string, key: string): Promise<void> {
  await page.goto(address);
  await page.getByText('Sign in with an API key').click();
  await page.getByLabel('API key').fill(key);
  await page.getByRole('button', { name: 'Sign in' }).click();
  await page.waitForURL(({ pathname }) => pathname !== '/sign-in');
}

const axe = readFile(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');

/** What axe finds that keeps people out, in short; the page's policy does not hold for it. */
export async function seriousFaults(page: Page): Promise<string[]> {
  await page.evaluate(await axe);
  return page.evaluate(async () => {
    const { violations } = await (globalThis as unknown as { axe: { run(): Promise<{ violations: Violation[] }> } }).axe.run();
    return violations.filter(({ impact }) => impact === 'serious' || impact === 'critical').map(({ id, nodes }) => `${id}: ${nodes[0]?.html.slice(0, 200)}`);
  });
}

interface Violation {
  readonly id: string;
  readonly impact: string;
  readonly nodes: readonly { readonly html: string }[];
}

/** Pixels by which a page is wider than its window, or the head of its frame than there is room for it, where it would be cut. */
export async function overflowOf(page: Page): Promise<number> {
  return page.evaluate(() => {
    type Box = { scrollWidth: number; clientWidth: number };
    type Boxes = { documentElement: Box; querySelectorAll(selector: string): Iterable<Box> };
    const { document } = globalThis as unknown as { document: Boxes };
    const boxes = [document.documentElement, ...document.querySelectorAll('.bar, .bar nav')];
    return Math.max(0, ...boxes.map((box) => box.scrollWidth - box.clientWidth)); // the room of a scroll bar counts for neither
  });
}
