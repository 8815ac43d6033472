import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { groupFailures } from '../../../service/error-groups.js';
import { errorPattern } from '../../../service/error-pattern.js';

describe('the pattern of a message [DASH-07]', () => {
  test.each([
    ['no file /tmp/work/8f14e45f-ceea-467f-a0e6-7c1f9d2b3a44/out.txt after 1532 ms', 'no file <path> after <n> ms'],
    ['task 8f14e45f-ceea-467f-a0e6-7c1f9d2b3a44 is gone', 'task <id> is gone'],
    ['exit code 2', 'exit code <n>'],
    ['commit 9fceb02d0ae598e95dc970b74767f19372d61af8 is not there', 'commit <id> is not there'],
    ['digest sha256:0a1b2c3d4e5f60718293a4b5c6d7e8f9 differs', 'digest <id> differs'],
    ['at 2026-01-09T10:30:00.123Z, and at 2026-01-09 10:30', 'at <time>, and at <time>'],
    ['GET https://example.org/a/b?c=1 gave 503', 'GET <url> gave <n>'],
    ['connect ECONNREFUSED 127.0.0.1:11434', 'connect ECONNREFUSED <address>'],
    ['C:\\work\\x.txt is missing', '<path> is missing'],
    ['~/notes.md and ../a/b.txt', '<path> and <path>'],
    ['needs 4.6 GiB of -1,234.5', 'needs <n> GiB of <n>'],
    ['llama3.1:8b is not a model', 'llama3.1:8b is not a model'],
    ['first\n  second\tthird', 'first second third'],
    ['', ''],
  ])('%j is %j', (message, pattern) => expect(errorPattern(message)).toBe(pattern));

  test('whatever the message is, its pattern is short, one line, and found at once', () => {
    fc.assert(
      fc.property(
        fc.oneof(fc.string({ unit: 'binary', maxLength: 400 }), fc.string({ maxLength: 700, unit: fc.constantFrom('/', 'a', '1', '.', '-', ' ') })),
        (message) => {
          const startedMs = performance.now();
          const pattern = errorPattern(message);
          expect(performance.now() - startedMs).toBeLessThan(500);
          expect(pattern).not.toMatch(/[\n\r\t]/);
          expect(pattern.length).toBeLessThanOrEqual(3 * 300 + 1); // the longest of what stands for one character
        },
      ),
    );
  });

  test('a long message is cut between words, so that a piece of an id makes no group of its own', () => {
    const long = (id: string) => `${'word '.repeat(55)}and then it had ${id} behind it`;
    expect(errorPattern(long('8f14e45f-ceea-467f-a0e6-7c1f9d2b3a44'))).toBe(errorPattern(long('3f0c1f3e-5b7e-4f0e-8a43-6f3d4f1c9a10')));
  });
});

describe('groups of failures [DASH-07]', () => {
  const failure = (message: string, more: object = {}) => ({
    template: 'a',
    step: 'run',
    code: 'step_failed',
    message,
    count: 1,
    firstAt: new Date('2026-01-09T10:00:00Z'),
    lastAt: new Date('2026-01-09T10:00:00Z'),
    taskIds: ['id-1'],
    ...more,
  });

  test('are of one template, step, code and pattern, with counts and times of all', () => {
    const groups = groupFailures(
      [
        failure('exit code 2', { count: 3, lastAt: new Date('2026-01-09T12:00:00Z'), taskIds: ['x', 'y', 'z'] }),
        failure('exit code 7', { count: 2, firstAt: new Date('2026-01-09T09:00:00Z'), taskIds: ['v', 'w'] }),
        failure('exit code 2', { template: 'b' }),
        failure('exit code 2', { step: null }),
        failure('exit code 2', { code: 'timeout' }),
      ],
      4,
    );
    expect(groups).toHaveLength(4);
    expect(new Set(groups.map(({ key }) => key)).size).toBe(4);
    expect(groups[0]).toMatchObject({
      pattern: 'exit code <n>',
      message: 'exit code 2',
      count: 5,
      first_seen: '2026-01-09T09:00:00.000Z',
      last_seen: '2026-01-09T12:00:00.000Z',
      task_ids: ['x', 'y', 'z', 'v'],
    });
  });

  test('the largest comes first, and its key stays whatever else there is', () => {
    const [one] = groupFailures([failure('a')], 1);
    const groups = groupFailures([failure('a'), failure('b', { count: 9 })], 1);
    expect(groups.map(({ pattern }) => pattern)).toEqual(['b', 'a']);
    expect(groups[1]?.key).toBe(one?.key);
  });
});
