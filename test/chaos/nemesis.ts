import { setTimeout as delay } from 'node:timers/promises';
import type { Product } from './product.js';
import type { Random } from './random.js';

export const targets = ['api', 'engine', 'host', 'temporal', 'postgres', 'ollama', 'up'] as const;
export type Target = (typeof targets)[number];

/** One fault: a process is killed, or stands still for a while and wakes up believing that no time has passed. */
export interface Fault {
  readonly afterMs: number;
  readonly target: Target;
  /** null: killed */
  readonly standsMs: number | null;
}

/** What is to happen, decided before anything runs, so that the seed repeats it. */
export function schedule(kills: number, random: Random, without: readonly Target[]): readonly Fault[] {
  const [first = 'engine', ...rest] = targets.filter((target) => !without.includes(target));
  return Array.from({ length: kills }, () => {
    const target = random.pick([first, ...rest]);
    const stands = (target === 'engine' || target === 'host') && random.next() < 0.25;
    return { afterMs: random.between(500, 5000), target, standsMs: stands ? random.between(3000, 20_000) : null };
  });
}

/** Does the faults one after another. @returns how many of each target were really hit; one that is just starting again is waited for */
export async function harm(product: Product, faults: readonly Fault[], say: (line: string) => void): Promise<ReadonlyMap<Target, number>> {
  const hits = new Map<Target, number>();
  for (const [index, fault] of faults.entries()) {
    await delay(fault.afterMs);
    const done = fault.target === 'up' ? await harmUp(product) : await harmChild(product, fault);
    say(`${index + 1}/${faults.length} ${fault.standsMs === null ? 'kill' : `stop ${fault.standsMs} ms`} ${fault.target}${done ? '' : ': was not there'}`);
    if (done) hits.set(fault.target, (hits.get(fault.target) ?? 0) + 1);
  }
  return hits;
}

async function harmUp(product: Product): Promise<boolean> {
  await product.killUp();
  await product.up();
  return true;
}

async function harmChild(product: Product, fault: Fault): Promise<boolean> {
  const deadline = Date.now() + 60_000;
  for (;;) {
    const found = (await product.processes()).get(fault.target);
    if (found !== undefined) {
      process.kill(found.pid, fault.standsMs === null ? 'SIGKILL' : 'SIGSTOP');
      if (fault.standsMs !== null) {
        await delay(fault.standsMs);
        process.kill(found.pid, 'SIGCONT');
      }
      return true;
    }
    if (Date.now() > deadline) return false;
    await delay(100);
  }
}
