import { describe, expect, test } from 'vitest';
import type { JsonObject } from '../../../contract/json.js';
import type { ModelListView } from '../../../contract/schemas/model.js';
import { fits } from '../../../dashboard/pages/templates.js';
import { controlPattern, drawnFields, listText, modelChoices } from '../../../dashboard/task-form.js';

type Field = Parameters<typeof drawnFields>[0][number];
const field = (fields: Partial<Field>): Field => ({ name: 'a', label: 'A', type: 'string', widget: 'text', required: false, ...fields });
const drawn = (fields: Partial<Field>, given: JsonObject = {}) => drawnFields([field(fields)], given, [])[0];

describe('a field of a form [DASH-20]', () => {
  test('begins with what an earlier task was given, else with its default, else empty', () => {
    expect(drawn({ default: 'x' }, { a: 'y' })).toMatchObject({ text: 'y', defaulted: true });
    expect(drawn({ default: 'x' })).toMatchObject({ text: 'x', defaulted: true });
    expect(drawn({})).toMatchObject({ text: '', defaulted: false });
    expect(drawn({ type: 'number', widget: 'number', default: 0 })).toMatchObject({ text: '0' });
    expect(drawn({ type: 'boolean', widget: 'checkbox', default: false }, { a: true })).toMatchObject({ text: 'true', widget: 'checkbox' });
    expect(drawn({ type: 'object', widget: 'json' }, { a: { b: 1 } })).toMatchObject({ text: '{\n  "b": 1\n}' });
  });

  test('a truth that may be absent is a choice of three', () => {
    expect(drawn({ type: 'boolean', widget: 'checkbox' })).toMatchObject({ widget: 'choice', text: '' });
    expect(drawn({ type: 'boolean', widget: 'checkbox', required: true })).toMatchObject({ widget: 'checkbox' });
  });

  test('a text of several lines is never put into a control of one', () => {
    expect(drawn({}, { a: 'one\ntwo' })).toMatchObject({ widget: 'textarea', text: 'one\ntwo' });
  });

  test('its hint says what fits and what is taken otherwise', () => {
    expect(drawn({ min: 1, required: true })?.hint).toBe('');
    expect(drawn({ min: 3, max: 2_000 })?.hint).toBe('3 to 2 000 characters');
    expect(drawn({ type: 'integer', widget: 'number', min: 1_024, max: 131_072, default: 8_192 })?.hint).toBe('1024 to 131072, default 8192');
    expect(drawn({ type: 'array', widget: 'list', min: 2 })?.hint).toBe('one per line, or a JSON list, at least 2 items');
    expect(drawn({ max: 1 })?.hint).toBe('at most 1 character');
  });
});

test.each([
  [['a', 'b'], 'a\nb'],
  [[], ''],
  [['a\nb'], JSON.stringify(['a\nb'], null, 2)],
  [[' a'], JSON.stringify([' a'], null, 2)],
  [[1, 'a'], JSON.stringify([1, 'a'], null, 2)],
  [[{ role: 'user' }], JSON.stringify([{ role: 'user' }], null, 2)],
  [['[a]'], JSON.stringify(['[a]'], null, 2)],
  [['[a', 'b]'], JSON.stringify(['[a', 'b]'], null, 2)],
])('the list %j is written so that it reads back the same [DASH-20]', (items, text) => {
  expect(listText(items)).toBe(text);
});

test('the pattern of a control fits where that of the template has a match, and is left out where browsers would not read it [DASH-20]', () => {
  const whole = (pattern: string, value: string) => new RegExp(`^(?:${controlPattern(pattern)})$`, 'v').test(value);
  expect([whole('^[A-Z]{3}$', 'ABC'), whole('^[A-Z]{3}$', 'ABCD'), whole('b|c', 'abd'), whole('b|c', 'ad')]).toEqual([true, false, true, false]);
  expect(controlPattern('^[0-9A-Za-z.+-]+$')).toBeNull(); // a bare - in a class
});

const model = (name: string, host: string, fields: Partial<ModelListView['items'][number]> = {}): ModelListView['items'][number] => ({
  name,
  host,
  digest: null,
  shares_memory_with: [],
  size_bytes: 1024 ** 3,
  loaded: false,
  memory_bytes: null,
  vram_bytes: null,
  context_length: null,
  queue_depth: 0,
  last_used_at: null,
  expires_at: null,
  aliases: [],
  serving: false,
  pull: null,
  usage: { inferences: 0, inference_time_seconds: 0, prompt_tokens: 0, output_tokens: 0 },
  ...fields,
});

test('each model is offered once, those in memory first, and the first choice is the only likely one [DASH-20]', () => {
  const choices = modelChoices({
    items: [
      model('b', 'one'),
      model('c', 'one', { loaded: true }),
      model('c', 'two'),
      model('a', 'two', { size_bytes: null, pull: { status: 'pulling', completed_bytes: 1, total_bytes: 2 } }),
    ],
    aliases: [{ alias: 'fast', name: 'b', digest: null }],
  });
  expect(choices.map(({ name, detail }) => [name, detail])).toEqual([
    ['c', '1.0 GiB, in memory'],
    ['a', 'being fetched'],
    ['b', '1.0 GiB'],
    ['fast', 'short for b'],
  ]);
  const first = (models: typeof choices) => drawnFields([field({ widget: 'model', required: true })], {}, models)[0]?.text;
  expect([first(choices), first(choices.slice(1, 3)), first(choices.slice(2, 3)), first([])]).toEqual(['c', '', 'b', '']);
  expect(drawnFields([field({ widget: 'model' })], { a: 'mine' }, choices)[0]?.text).toBe('mine');
  const two = [field({ widget: 'model', required: true }), field({ name: 'b', widget: 'model', required: true })];
  expect(drawnFields(two, {}, choices).map(({ text }) => text)).toEqual(['', '']); // they are meant to differ
});

test('a search finds a template by all words, wherever they stand [DASH-20]', () => {
  const template = {
    name: 'code-review',
    description: 'Review a diff',
    source: 'community' as const,
    hash: '',
    parameters: [{ name: 'focus', type: 'string' as const, required: false, description: 'What to look at' }],
    step_types: ['ollama_generate'],
    models: [],
    stale: null,
  };
  expect(['', 'CODE diff', 'focus ollama', 'look at'].map((words) => fits(template, words))).toEqual([true, true, true, true]);
  expect(fits(template, 'code nothing')).toBe(false);
});
