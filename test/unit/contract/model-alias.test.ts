import { expect, test } from 'vitest';
import { resolveAliases } from '../../../contract/model-alias.js';
import { defaultRegistries, parseModelName } from '../../../contract/model-name.js';

const digest = `sha256:${'0123456789abcdef'.repeat(4)}`;

test('an alias is followed through others to its model, with its pin [MODEL-11, MODEL-12]', () => {
  const { models, faults } = resolveAliases(
    { fast: 'llama3.2:1b', chat: 'fast', fixed: `Qwen3:8B@${digest.toUpperCase().replace('SHA256', 'sha256')}` },
    defaultRegistries,
  );
  expect(faults).toEqual([]);
  expect(Object.fromEntries(models)).toEqual({
    fast: { name: 'llama3.2:1b', digest: null },
    chat: { name: 'llama3.2:1b', digest: null },
    fixed: { name: 'qwen3:8B', digest },
  });
});

test('a circle, however long, and a name that is not allowed are told for each alias [MODEL-11]', () => {
  const { models, faults } = resolveAliases(
    { a: 'b', b: 'c', c: 'a', self: 'self', cloud: 'gpt-oss:120b-cloud', away: 'evil.example/x/y', good: 'm' },
    defaultRegistries,
  );
  expect([...models.keys()]).toEqual(['good']);
  expect(faults.map(({ alias }) => alias)).toEqual(['a', 'b', 'c', 'self', 'cloud', 'away']);
  expect(faults[0]?.text).toBe('leads in a circle: a -> b -> c -> a');
});

test('a pin is taken apart from its name, and anything like one is refused [MODEL-12, bad-40]', () => {
  expect(parseModelName(`llama3.2@${digest}`, defaultRegistries)).toEqual({ name: 'llama3.2:latest', digest });
  expect(parseModelName(`hf.co/org/repo:Q4@${digest}`, defaultRegistries)).toEqual({ name: 'hf.co/org/repo:Q4', digest });
  for (const bad of [
    'm@sha256:abc',
    `m@md5:${'0'.repeat(64)}`,
    `@${digest}`,
    `m@${digest}@${digest}`,
    `m@${digest} `,
    `evil.example/x/y@${digest}`,
    `x:20b:cloud@${digest}`,
    `x:cloud@${digest}`,
  ]) {
    expect(parseModelName(bad, defaultRegistries), bad).toHaveProperty('problem');
  }
});
