import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { schemaFaults } from '../../../activities/steps/answer-schema.js';
import { checkAnswer } from '../../../activities/steps/check-answer.js';
import type { JsonObject, JsonValue } from '../../../contract/json.js';

const person: JsonObject = {
  $schema: 'https://json-schema.org/draft/2020-12/schema',
  $id: 'https://schemas.example/person',
  type: 'object',
  properties: {
    name: { type: 'string', minLength: 2, pattern: '^[A-Z]' },
    age: { type: 'integer', minimum: 0, maximum: 150 },
    tags: { type: 'array', items: { $ref: '#/$defs/tag' }, maxItems: 2, uniqueItems: true },
  },
  required: ['name'],
  additionalProperties: false,
  $defs: { tag: { enum: ['a', 'b', 'c'] } },
};

/** Each level names the next twice, so that a check would take 2^n steps. */
function doubling(levels: number): JsonObject {
  const $defs: JsonObject = { [`l${levels}`]: { type: 'string' } };
  for (let level = 0; level < levels; level += 1) $defs[`l${level}`] = { anyOf: [{ $ref: `#/$defs/l${level + 1}` }, { $ref: `#/$defs/l${level + 1}` }] };
  return { $defs, $ref: '#/$defs/l0' };
}

describe('a JSON Schema [bad-45]', () => {
  test('of all the keywords that people use is taken', () => {
    expect(schemaFaults(person)).toEqual([]);
    expect(schemaFaults({ anyOf: [{ const: 1 }, { not: { type: ['null', 'string'] } }], default: 3, 'x-own': { type: 'nothing' } })).toEqual([]);
    expect(
      schemaFaults({ items: [{ type: 'string' }], additionalItems: false, definitions: { 'a/b~c': true }, allOf: [{ $ref: '#/definitions/a~1b~0c' }] }),
    ).toEqual([]);
    expect(schemaFaults({ type: 'object', properties: { next: { $ref: '#' }, $ref: { type: 'string' } } })).toEqual([]);
  });

  test.each<[string, JsonObject, readonly string[], string]>([
    ['a type that there is not', { properties: { a: { type: 'text' } } }, ['properties', 'a', 'type'], 'type'],
    ['a bound that is a text', { minimum: '1' }, ['minimum'], 'number'],
    ['a count below 0', { minLength: -1 }, ['minLength'], '0 or more'],
    ['required as a boolean', { properties: { a: { required: true } } }, ['properties', 'a', 'required'], 'list of names'],
    ['an empty choice', { anyOf: [] }, ['anyOf'], 'list of schemas'],
    ['a pattern that is none', { pattern: '(' }, ['pattern'], 'regular expression'],
    ['a name pattern that is none', { patternProperties: { '(': true } }, ['patternProperties', '('], 'regular expression'],
    ['a schema that is a text', { properties: { a: 'string' } }, ['properties', 'a'], 'expected a schema'],
    ['a reference to another machine', { $ref: 'https://evil.example/schema.json' }, ['$ref'], 'place in this schema'],
    ['a reference to a file', { items: { $ref: 'file:///etc/passwd' } }, ['items', '$ref'], 'place in this schema'],
    ['a reference to nothing', { $ref: '#/$defs/absent' }, ['$ref'], 'names no schema here'],
    ['a reference out of the schemas', { enum: [{ type: 'string' }], $ref: '#/enum/0' }, ['$ref'], 'names no schema here'],
    ['an address inside', { properties: { a: { $id: 'https://evil.example/' } } }, ['properties', 'a', '$id'], 'no $id'],
    ['a dynamic reference', { $dynamicRef: '#x' }, ['$dynamicRef'], 'not supported'],
  ])('with %s is refused, with the place', (_, schema, path, text) => {
    expect(schemaFaults(schema)).toEqual([{ path, text: expect.stringContaining(text) }]);
  });

  test('that is too deep or too large is refused, and not walked to its end', () => {
    let deep: JsonObject = {};
    for (let depth = 0; depth < 100_000; depth += 1) deep = { not: deep };
    expect(schemaFaults(deep)).toEqual([{ path: [], text: expect.stringContaining('32 deep') }]);
    expect(schemaFaults({ description: 'x'.repeat(70_000) })).toEqual([{ path: [], text: expect.stringContaining('65536 characters') }]);
  });

  test('with a regular expression of more than 500 characters is refused: it is read before there is a time limit', () => {
    const long = 'a'.repeat(501);
    expect(schemaFaults({ pattern: long.slice(1), patternProperties: { [long.slice(1)]: true } })).toEqual([]);
    expect(schemaFaults({ pattern: long })).toEqual([{ path: ['pattern'], text: expect.stringContaining('at most 500') }]);
    expect(schemaFaults({ patternProperties: { [long]: true } })).toEqual([
      { path: ['patternProperties', long.slice(1)], text: expect.stringContaining('at most 500') },
    ]);
  });

  test('of any shape never makes the check fail in another way', () => {
    const names = ['type', 'properties', 'items', 'anyOf', '$ref', 'enum', 'pattern', 'minimum', 'not', '$defs', 'required', '__proto__', 'constructor'];
    const tree = fc.letrec<{ value: JsonValue }>((tie) => ({
      value: fc.oneof(
        { depthSize: 'small' },
        fc.constantFrom<JsonValue>('string', '#', '#/$defs/x', '(a+)+$', 1, -1, true, null),
        fc.array(tie('value'), { maxLength: 3 }),
        fc.dictionary(fc.constantFrom(...names), tie('value'), { maxKeys: 3 }) as fc.Arbitrary<JsonValue>,
      ),
    }));
    fc.assert(
      fc.property(fc.dictionary(fc.constantFrom(...names), tree.value, { maxKeys: 4 }), fc.jsonValue({ maxDepth: 2 }), (schema, answer) => {
        if (schemaFaults(schema).length > 0) return;
        const checked = checkAnswer(JSON.stringify(answer), schema, false);
        expect('json' in checked || checked.faults.length > 0).toBe(true);
      }),
    );
  });
});

describe('an answer', () => {
  test('that keeps to its schema is its JSON', () => {
    const json = { name: 'Ada', age: 36, tags: ['a', 'b'] };
    expect(checkAnswer(JSON.stringify(json), person, false)).toEqual({ json });
  });

  test('that is valid JSON but breaks keywords which constrained decoding does not know is told each fault with its place', () => {
    const text = JSON.stringify({ name: 'a', age: 151, tags: ['a', 'a', 'x'], more: 1 });
    const checked = checkAnswer(text, person, false);
    const faults = 'faults' in checked ? checked.faults : [];
    for (const place of [/^name: .*short/, /^name: .*pattern/, /^age: .*150/, /^tags: .*many/, /^tags: Duplicate/, /^tags\.2: /, /^more: is not allowed/])
      expect(faults).toContainEqual(expect.stringMatching(place));
  });

  test.each([
    ['{"name": "Ad', true, 'cut off'],
    ['{"name": "Ad', false, 'not JSON'],
    ['', false, 'not JSON'],
    ['Here you are: {}', false, 'not JSON'],
    ['[{"a": 1}', true, 'cut off'],
  ])('%j is a fault also without a schema', (text, cutOff, word) => {
    expect(checkAnswer(text, 'json', cutOff)).toEqual({ faults: [expect.stringContaining(word)] });
  });

  test('that is nested without end is a fault', () => {
    expect(checkAnswer('['.repeat(50_000) + ']'.repeat(50_000), 'json', false)).toEqual({ faults: [expect.stringContaining('deep')] });
  });

  test.each<[string, JsonObject, JsonValue]>([
    ['a pattern that backtracks without end', { pattern: '^(a+)+$' }, `${'a'.repeat(60)}!`],
    ['a name pattern that does', { patternProperties: { '^(a+)+$': false } }, { [`${'a'.repeat(60)}!`]: 1 }],
    ['references that multiply', doubling(30), 1],
    ['references in a circle', { $ref: '#' }, 1],
    ['a comparison of each item with each other', { uniqueItems: true }, Array.from({ length: 60_000 }, (_, index) => ({ index }))],
  ])('is not accepted when %s keeps the check from ending, which is bounded', (_, schema, answer) => {
    expect(schemaFaults(schema)).toEqual([]);
    expect(checkAnswer(JSON.stringify(answer), schema, false)).toEqual({ faults: [expect.stringMatching(/took more than|does not end/)] });
  });

  test('with names of the language is checked as any other', () => {
    const closed = { type: 'object', additionalProperties: false };
    for (const name of ['__proto__', 'constructor', 'toString']) expect(checkAnswer(`{"${name}": {"x": 1}}`, closed, false)).toHaveProperty('faults');
    expect(checkAnswer('{}', { required: ['constructor'] }, false)).toHaveProperty('faults');
  });

  test('is checked as the draft of the schema says', () => {
    expect(checkAnswer('["x"]', { items: [{ type: 'number' }] }, false)).toHaveProperty('faults');
    expect(
      checkAnswer('[1, 5]', { $schema: 'http://json-schema.org/draft-07/schema#', items: [{ type: 'number' }], additionalItems: false }, false),
    ).toHaveProperty('faults');
    expect(checkAnswer('5', { $schema: 'http://json-schema.org/draft-04/schema#', maximum: 5, exclusiveMaximum: true }, false)).toHaveProperty('faults');
  });

  test('with a thousand faults is told the first ones', () => {
    const checked = checkAnswer(JSON.stringify(Array.from({ length: 1000 }, () => 'x')), { items: { type: 'number' } }, false);
    expect('faults' in checked && checked.faults).toHaveLength(21);
  });
});
