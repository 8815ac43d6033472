import { setTimeout as delay } from 'node:timers/promises';
import type { Product } from './product.js';
import type { Random } from './random.js';

/** What the client knows of one task it wants to be done. */
export interface Entry {
  /** idempotency key, and what the task has to have written at its end */
  readonly token: string;
  readonly template: string;
  /** set once the API has answered; until then the task may or may not be there */
  id?: string;
  readonly parent?: Entry;
  /** whether the client wants it stopped, and what the API answered: 200 it never started, 202 it is being stopped, 409 it had ended */
  readonly cancel: boolean;
  cancelled?: 200 | 202 | 409;
  /** submissions without an answer, or answered with 5xx */
  unanswered: number;
}

interface Load {
  readonly tasks: number;
  /** names of models; empty: no task asks one */
  readonly models: readonly string[];
  /** time over which submissions are spread */
  readonly spreadMs: number;
}

const inFlight = 8;
const templates = ['chaos-note', 'chaos-script'] as const;

/**
 * Submits tasks as a careful client does: each with its own idempotency key, repeated until there is an answer. Also cancels some.
 * @returns what was asked for and what was answered
 */
export async function submitAll(product: Product, load: Load, random: Random): Promise<readonly Entry[]> {
  const entries: Entry[] = [];
  const plans = Array.from({ length: load.tasks }, (_, index) => ({
    token: `token-${index}-${random.between(0, 2 ** 30).toString(36)}`,
    template: load.models.length > 0 && random.next() < 0.3 ? 'chaos-model' : random.pick(templates),
    level: random.between(1, 10),
    cancel: random.next() < 0.1,
    dependsBack: random.next() < 0.2 ? random.between(1, 10) : 0,
    // few locks for many tasks, so that they are held, waited for and freed while processes are killed
    needs: random.next() < 0.3 ? { locks: [random.pick(['lock-a', 'lock-b', 'lock-c'])], cpu_cores: random.pick([0.1, 0.5, 1]) } : undefined,
    model: load.models[random.between(0, Math.max(0, load.models.length - 1))],
    atMs: (index * load.spreadMs) / load.tasks,
  }));
  const startedMs = Date.now();
  const queue = plans.values();
  const work = async () => {
    for (const plan of queue) {
      await delay(Math.max(0, plan.atMs - (Date.now() - startedMs)));
      // A child of a cancelled task would wait for ever, as it should.
      const candidate = plan.dependsBack > 0 ? entries.at(-plan.dependsBack) : undefined;
      const parent = candidate?.id !== undefined && !candidate.cancel ? candidate : undefined;
      const entry: Entry = { token: plan.token, template: plan.template, cancel: plan.cancel, unanswered: 0, ...(parent === undefined ? {} : { parent }) };
      entries.push(entry);
      const parameters = {
        token: plan.token,
        ...(plan.template === 'chaos-script' ? { repo_url: product.repository } : {}),
        ...(plan.template === 'chaos-model' ? { model: plan.model } : {}),
      };
      const body = {
        template: plan.template,
        parameters,
        priority: plan.level,
        depends_on: parent?.id === undefined ? [] : [parent.id],
        resource_requirements: plan.needs,
      };
      const answer = await untilAnswered(product, entry, 'POST', '/api/v1/tasks', body);
      if (answer.status !== 201 && answer.status !== 200) throw new Error(`POST /api/v1/tasks answered ${answer.status}: ${await answer.text()}`);
      entry.id = ((await answer.json()) as { id: string }).id;
      if (plan.cancel) {
        const { status } = await untilAnswered(product, entry, 'DELETE', `/api/v1/tasks/${entry.id}`);
        if (status !== 200 && status !== 202 && status !== 409) throw new Error(`DELETE of ${entry.id} answered ${status}`);
        entry.cancelled = status;
      }
    }
  };
  await Promise.all(Array.from({ length: inFlight }, work));
  return entries;
}

/** Repeats a request that got no answer, or was told to come back, for as long as parts may be down. */
async function untilAnswered(product: Product, entry: Entry, method: string, path: string, body?: object): Promise<Response> {
  const headers = { ...(await product.headers()), 'idempotency-key': entry.token };
  const deadline = Date.now() + 300_000;
  for (;;) {
    try {
      const init = { method, headers, signal: AbortSignal.timeout(15_000), ...(body === undefined ? {} : { body: JSON.stringify(body) }) };
      const response = await fetch(`${product.api}${path}`, init);
      if (response.status !== 503 && response.status !== 429) return response;
    } catch (error) {
      if (Date.now() > deadline) throw new Error(`${method} ${path} had no answer for 5 minutes`, { cause: error });
    }
    if (Date.now() > deadline) throw new Error(`${method} ${path} was put off for 5 minutes`);
    entry.unanswered += 1;
    await delay(300);
  }
}
