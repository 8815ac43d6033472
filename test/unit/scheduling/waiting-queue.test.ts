import fc from 'fast-check';
import { expect, test } from 'vitest';
import { compareStanding, defaultMaxWaitsMs, standingOf } from '../../../scheduling/waiting-order.js';
import { rankOf, WaitingQueues } from '../../../scheduling/waiting-queue.js';

const anyStep = fc.record({
  level: fc.integer({ min: 1, max: 10 }),
  extra: fc.integer({ min: 0, max: 9 }),
  enteredMs: fc.integer({ min: -10_000_000, max: 0 }),
});
const stepsOf = (drawn: readonly { level: number; extra: number; enteredMs: number }[]) =>
  drawn.map(({ level, extra, enteredMs }, place) => ({ level, exact: level * 10 - extra, place, enteredMs }));

test('a rank says what compareStanding says', () => {
  const anyWaiting = fc.record({
    level: fc.integer({ min: 1, max: 10 }),
    exact: fc.integer({ min: 0, max: 100 }),
    place: fc.nat(2 ** 31),
    waitedMs: fc.nat(10_000_000),
  });
  fc.assert(
    fc.property(anyWaiting, anyWaiting, (a, b) => {
      const [one, other] = [standingOf(a, defaultMaxWaitsMs), standingOf(b, defaultMaxWaitsMs)];
      expect(Math.sign(rankOf(one, a) - rankOf(other, b))).toBe(Math.sign(compareStanding(one, a, other, b)));
    }),
  );
});

test('each queue has the first step that a sort has at every moment, while steps come, go and grow old [SCHED-21]', () => {
  fc.assert(
    fc.property(
      fc.array(anyStep, { minLength: 1, maxLength: 30 }),
      fc.array(fc.record({ onMs: fc.nat(2_000_000), take: fc.boolean() }), { maxLength: 60 }),
      (drawn, moves) => {
        const steps = stepsOf(drawn);
        const queues = new WaitingQueues(steps, defaultMaxWaitsMs);
        const present = [new Set<number>(), new Set<number>()];
        for (const [queue] of present.entries()) expect(queues.open()).toBe(queue);
        let nowMs = 0;
        for (const [index, { onMs, take }] of moves.entries()) {
          if (index < steps.length) {
            queues.add(index % 2, index, nowMs);
            present[index % 2]?.add(index);
          }
          nowMs += onMs;
          queues.advance(nowMs);
          for (const [queue, waiting] of present.entries()) {
            const order = [...waiting].sort((x, y) => {
              const [a, b] = [steps[x], steps[y]].map((step) => ({ ...step!, waitedMs: nowMs - step!.enteredMs })) as [never, never];
              return compareStanding(standingOf(a, defaultMaxWaitsMs), a, standingOf(b, defaultMaxWaitsMs), b);
            });
            expect(queues.firsts[queue]).toBe(order[0] ?? -1);
            expect(queues.firstRanks[queue]).toBe(order[0] === undefined ? Infinity : queues.rankAt(order[0], nowMs));
            expect(queues.sizes[queue]).toBe(waiting.size);
            if (!take || order[0] === undefined) continue;
            queues.take(order[0]);
            waiting.delete(order[0]);
          }
        }
      },
    ),
  );
});
