import fc from 'fast-check';
import { expect, test } from 'vitest';
import { depthMax, refuseUnsafeJson } from '../../../api/json-body.js';
import { ProblemError } from '../../../contract/problems.js';

const refuses = (text: string) => {
  try {
    refuseUnsafeJson(text);
    return null;
  } catch (error) {
    if (error instanceof ProblemError) return error.code;
    throw error;
  }
};

function depthOf(value: unknown): number {
  return typeof value === 'object' && value !== null ? 1 + Math.max(0, ...Object.values(value).map(depthOf)) : 0;
}

const storable = (value: unknown) => !/\\u0000|\\ud[89a-f]/.test(JSON.stringify(value));
const refusedKey = /"(__proto__|constructor|prototype)":/;

test('JSON that is kept as it is passes, however it is spaced [bad-2]', () => {
  fc.assert(
    fc.property(fc.jsonValue({ maxDepth: 6 }), fc.constantFrom(0, 1, 4), (value, indent) => {
      fc.pre(storable(value) && !refusedKey.test(JSON.stringify(value)));
      expect(refuses(JSON.stringify(value, null, indent))).toBeNull();
    }),
    { numRuns: 500 },
  );
});

test('no text makes the check fail otherwise than by refusing it [TASK-25]', () => {
  const check = (text: string) => {
    expect([null, 'invalid_json']).toContain(refuses(text));
  };
  fc.assert(fc.property(fc.string({ unit: 'binary', maxLength: 200 }), check), { numRuns: 500 });
});

test.each([
  ['', 'The body is empty.'],
  [' \n', 'The body is empty.'],
  ['{"a":1,}', 'The body is not valid JSON: it goes wrong at position 7.'],
  ['{"a":', 'The body is not valid JSON: it ends too early.'],
  ['secret', 'The body is not valid JSON.'],
])('the text %j is refused with what is wrong, and never repeated [bad-2]', (text, detail) => {
  expect(() => refuseUnsafeJson(text)).toThrow(new ProblemError('invalid_json', detail));
});

test('the limit of depth is exact [bad-3]', () => {
  const array = (depth: number) => '['.repeat(depth) + ']'.repeat(depth);
  const object = (depth: number) => '{"a":'.repeat(depth) + '1' + '}'.repeat(depth);
  for (const make of [array, object]) {
    expect(depthOf(JSON.parse(make(depthMax)))).toBe(depthMax);
    expect(refuses(make(depthMax))).toBeNull();
    expect(refuses(make(depthMax + 1))).toBe('invalid_json');
  }
  expect(refuses(array(200_000))).toBe('invalid_json');
});

test('a key is a duplicate only within its own object [bad-2]', () => {
  expect(refuses('{"a":{"a":1},"b":[{"a":1},{"a":2}]}')).toBeNull();
  expect(refuses('{"a" : 1, "b":{"c":[]}, "a"\n: 2}')).toBe('invalid_json');
  expect(refuses('{"a":"b","b":"a","c":["a","a"]}')).toBeNull();
});

test('brackets, quotes and keys inside of texts count for nothing [bad-3]', () => {
  expect(refuses(JSON.stringify({ a: '[{"__proto__":'.repeat(100), b: '\\"', c: '"a":1,"a":2' }))).toBeNull();
});

test('a long text is walked through without exhausting the stack [bad-16]', () => {
  expect(refuses(JSON.stringify({ a: 'x\\"'.repeat(1_000_000) }))).toBeNull();
});
