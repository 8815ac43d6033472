import { expect, test } from 'vitest';
import { createOneAtATime } from '../../../host/one-at-a-time.js';

test('a change begins when the one before it has ended, even in failure', async () => {
  const changes = createOneAtATime();
  const seen: string[] = [];
  let fail: (error: Error) => void = () => {};
  const first = changes.run(() => new Promise<void>((_, reject) => void (fail = reject)));
  const second = changes.run(async () => void seen.push('second'));
  expect(changes.busy).toBe(true);
  await Promise.resolve();
  seen.push('first ends');
  fail(new Error('no memory'));
  await expect(first).rejects.toThrow('no memory');
  await second;
  expect(seen).toEqual(['first ends', 'second']);
  expect(changes.busy).toBe(false);
});
