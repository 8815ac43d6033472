import { describe, expect, test } from 'vitest';
import { steeringSchema } from '../../../activities/backends/ollama-grammar.js';
import type { JsonObject } from '../../../contract/json.js';

const anything = { type: ['string', 'number', 'boolean', 'null', 'object', 'array'] };

describe('what Ollama gets of a schema [bad-45]', () => {
  test('is the schema itself where it knows all of it', () => {
    const schema: JsonObject = {
      type: 'object',
      properties: {
        code: { type: 'string', pattern: '^[A-Z]{2}[0-9]+$' },
        stars: { type: 'integer', minimum: 1, maximum: 5 },
        tags: { type: 'array', items: { $ref: '#/$defs/tag' }, maxItems: 3 },
      },
      required: ['code'],
      additionalProperties: false,
      $defs: { tag: { enum: ['a', 'b'] } },
    };
    expect(steeringSchema(schema)).toEqual(schema);
  });

  test.each(['a', '', '^\\d+$', '^(?:a)$', '(?=a)a', '^.*$', '^a|b$', '^[^a]$', '^a{9999}$', '^a+?$', '^[\\]]$', '^é$'])(
    'is a text of any kind for the pattern %j',
    (pattern) => {
      expect(steeringSchema({ type: 'object', properties: { a: { type: 'string', pattern } } })).toEqual({
        type: 'object',
        properties: { a: { type: 'string' } },
      });
    },
  );

  test('never repeats more than the server takes', () => {
    const lengths = (count: number, maxLength: number) => ({
      properties: Object.fromEntries(Array.from({ length: count }, (_, index) => [`f${index}`, { type: 'string', maxLength }])),
    });
    const sent = steeringSchema(lengths(30, 1000)) as { properties: Record<string, { maxLength?: number }> };
    expect(Object.values(sent.properties).filter(({ maxLength }) => maxLength !== undefined)).toHaveLength(20);
    expect(steeringSchema(lengths(1, 1001))).toEqual({ properties: { f0: { type: 'string' } } });
  });

  test('says that anything goes where nothing is left, since nothing would mean an object', () => {
    expect(steeringSchema({ properties: { a: {}, b: true, c: { not: { type: 'string' } }, d: { pattern: '\\d' } } })).toEqual({
      properties: { a: anything, b: anything, c: anything, d: anything },
    });
    expect(steeringSchema({ not: { type: 'string' } })).toBe('json');
  });

  test('has room for its grammar, or is JSON of any shape', () => {
    const required = (count: number): JsonObject => {
      const properties = Object.fromEntries(Array.from({ length: count }, (_, index) => [`f${index}`, { type: 'boolean' }]));
      return { properties, required: Object.keys(properties) };
    };
    expect(steeringSchema(required(50))).toEqual(required(50));
    expect(steeringSchema(required(1_000))).toEqual({ ...required(1_000), $comment: ' '.repeat(262_144) });
    expect(steeringSchema(required(4_000))).toBe('json');
    expect(steeringSchema({ properties: required(201)['properties'] as JsonObject })).toBe('json');
  });
});
