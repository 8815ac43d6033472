import { describe, expect, test } from 'vitest';
import { defaultRegistries, loopbackRegistry, parseModelName, sameModel } from '../../../contract/model-name.js';

const registries = [...defaultRegistries, '127.0.0.1:5000'];

describe('parseModelName', () => {
  test.each([
    ['llama3.1', 'llama3.1:latest'],
    ['llama3.1:8b', 'llama3.1:8b'],
    ['Llama3.1:8b-instruct-q4_K_M', 'llama3.1:8b-instruct-q4_K_M'],
    ['library/llama3.1', 'llama3.1:latest'],
    ['registry.ollama.ai/library/llama3.1:8b', 'llama3.1:8b'],
    ['REGISTRY.ollama.ai/someone/model', 'someone/model:latest'],
    ['someone/model:v1', 'someone/model:v1'],
    ['HF.co/bartowski/Llama-3.2-1B-Instruct-GGUF:Q4_K_M', 'hf.co/bartowski/Llama-3.2-1B-Instruct-GGUF:Q4_K_M'],
    ['127.0.0.1:5000/test/tiny', '127.0.0.1:5000/test/tiny:latest'],
  ])('%s is %s, so that one model has one key', (text, name) => {
    expect(parseModelName(text, registries)).toEqual({ name, digest: null });
    expect(parseModelName(name, registries)).toEqual({ name, digest: null });
  });

  test.each([
    '',
    ' ',
    'a b',
    '../../x',
    'a/../b',
    'x'.repeat(500),
    `${'a'.repeat(81)}:x`,
    'x:',
    ':x',
    'x/',
    '/x',
    'a/b/c/d',
    'evil.com/x/y',
    'evil.com/x',
    'registry.ollama.ai.evil.com/x/y',
    'http://169.254.169.254/a/b',
    '169.254.169.254/a/b',
    'user@hf.co/a/b',
    'gpt-oss:120b-cloud',
    'x:20b:cloud',
    'x:cloud',
    'x:CLOUD',
    'x:20b-Cloud',
    'hf.co/a/b:cloud',
    'x:local',
    '127.0.0.1:5001/test/tiny',
    'localhost/x/y',
    'llama3\u0000',
    'llama3\n',
    'llama3\u202e',
    'ｌlama3',
    '-rf',
    '.hidden',
    'x:-tag',
    'a:b/c',
    'x?y',
    'x#y',
    'x%2e',
    'x\\y',
    "x'",
    'llama3@sha256:abc',
    '~ctx4096',
    '__proto__/../x',
  ])('%j is refused before any request [bad-40]', (text) => {
    const parsed = parseModelName(text, registries);
    expect(parsed).toHaveProperty('problem');
    expect((parsed as { problem: string }).problem).not.toMatch(/[^\x20-\x7e]/);
  });

  test('a host that is listed nowhere is named together with those allowed', () => {
    expect(parseModelName('evil.com/x/y', defaultRegistries)).toEqual({ problem: 'registry "evil.com" is not allowed; allowed are registry.ollama.ai, hf.co' });
  });
});

test('names of one model are the same however a server writes them', () => {
  expect(sameModel('tiny', 'tiny:latest')).toBe(true);
  expect(sameModel('Tiny:latest', 'tiny')).toBe(true);
  expect(sameModel('registry.ollama.ai/library/tiny', 'tiny:latest')).toBe(true);
  expect(sameModel('127.0.0.1:5000/test/tiny', '127.0.0.1:5000/test/tiny:latest')).toBe(true);
  expect(sameModel('tiny:a', 'tiny:b')).toBe(false);
  expect(sameModel('a/tiny', 'tiny')).toBe(false);
});

test('only a registry on loopback may be asked without TLS', () => {
  expect(loopbackRegistry('127.0.0.1:5000/a/b:latest')).toBe('127.0.0.1:5000');
  expect(loopbackRegistry('hf.co/a/b:latest')).toBeUndefined();
  expect(loopbackRegistry('127.0.0.1.evil.com/a/b:latest')).toBeUndefined();
  expect(loopbackRegistry('tiny:latest')).toBeUndefined();
});
