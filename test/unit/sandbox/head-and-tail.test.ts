import fc from 'fast-check';
import { expect, test } from 'vitest';
import { HeadAndTail } from '../../../activities/sandbox/head-and-tail.js';

test('head, tail and count are the same however the stream is cut into pieces', () => {
  fc.assert(
    fc.property(fc.array(fc.string({ unit: fc.constantFrom('a', 'b', 'c', 'd'), maxLength: 40 })), fc.integer({ min: 0, max: 50 }), (pieces, keepBytes) => {
      const kept = new HeadAndTail(keepBytes);
      for (const piece of pieces) kept.add(Buffer.from(piece));
      const whole = pieces.join('');
      expect(kept.totalBytes).toBe(whole.length);
      expect(kept.truncated).toBe(whole.length > keepBytes);
      if (!kept.truncated) expect(kept.text()).toBe(whole);
      else {
        const [head, tail] = kept.text().split('\n[... output left out ...]\n');
        expect(head).toBe(whole.slice(0, Math.ceil(keepBytes / 2)));
        expect(tail).toBe(Math.floor(keepBytes / 2) === 0 ? '' : whole.slice(-Math.floor(keepBytes / 2)));
      }
    }),
  );
});

test('a character cut in two by the pipe is whole again, and a broken one is replaced [bad-28]', () => {
  const kept = new HeadAndTail(100);
  for (const byte of Buffer.from('é\u0000')) kept.add(Buffer.from([byte]));
  kept.add(Buffer.from([0xff]));
  expect(kept.text()).toBe('é\ufffd\ufffd');
});
