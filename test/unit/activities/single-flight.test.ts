import { expect, test } from 'vitest';
import { createSingleFlight } from '../../../activities/single-flight.js';

const never = () => new AbortController().signal;

test('work asked for twice is done once, and both get its result [MODEL-04]', async () => {
  const flight = createSingleFlight();
  let runs = 0;
  const work = async () => {
    runs += 1;
    return 'pulled';
  };
  expect(await Promise.all([flight('llama', never(), work), flight('llama', never(), work)])).toEqual(['pulled', 'pulled']);
  expect(runs).toBe(1);
});

test('work goes on while somebody waits for it, and is aborted when nobody does', async () => {
  const flight = createSingleFlight();
  let inside: AbortSignal | undefined;
  const work = (signal: AbortSignal) => {
    inside = signal;
    return new Promise<never>((_, reject) => signal.addEventListener('abort', () => reject(signal.reason as Error)));
  };
  const [first, second] = [new AbortController(), new AbortController()];
  const results = [flight('llama', first.signal, work), flight('llama', second.signal, work)];
  first.abort(new Error('first left'));
  await expect(results[0]).rejects.toThrow('first left');
  expect(inside?.aborted).toBe(false);
  second.abort(new Error('second left'));
  await expect(results[1]).rejects.toThrow('second left');
  expect(inside?.aborted).toBe(true);
});

test('work is aborted when all who wait leave at once', async () => {
  const flight = createSingleFlight();
  const leaving = new AbortController();
  let inside: AbortSignal | undefined;
  const work = (signal: AbortSignal) => {
    inside = signal;
    return new Promise<never>((_, reject) => signal.addEventListener('abort', () => reject(signal.reason as Error)));
  };
  const results = Promise.allSettled([flight('llama', leaving.signal, work), flight('llama', leaving.signal, work)]);
  leaving.abort(new Error('all left'));
  expect((await results).map(({ status }) => status)).toEqual(['rejected', 'rejected']);
  expect(inside?.aborted).toBe(true);
});

test('work that failed is begun anew by the next who asks', async () => {
  const flight = createSingleFlight();
  await expect(flight('llama', never(), () => Promise.reject(new Error('cut')))).rejects.toThrow('cut');
  await expect(flight('llama', never(), async () => 'pulled')).resolves.toBe('pulled');
});
