import { describe, expect, test } from 'vitest';
import { parseOllamaAddress } from '../../../activities/backends/server/ollama-address.js';

describe('OLLAMA_HOST is read in every form that Ollama itself reads', () => {
  test.each([
    ['', 'http://127.0.0.1:11434'],
    ['gpu-box', 'http://gpu-box:11434'],
    ['gpu-box:1234', 'http://gpu-box:1234'],
    ['gpu-box:80', 'http://gpu-box:80'],
    [':1234', 'http://127.0.0.1:1234'],
    ['0.0.0.0', 'http://127.0.0.1:11434'],
    ['0.0.0.0:1234', 'http://127.0.0.1:1234'],
    ['http://0.0.0.0:1234', 'http://127.0.0.1:1234'],
    ['[::]:1234', 'http://127.0.0.1:1234'],
    ['[::1]:1234', 'http://[::1]:1234'],
    ['http://gpu-box', 'http://gpu-box:80'],
    ['https://gpu-box', 'https://gpu-box:443'],
    ['https://gpu-box:8443/ollama/', 'https://gpu-box:8443/ollama'],
    [' "gpu-box" ', 'http://gpu-box:11434'],
  ])('%j is %s', (text, url) => {
    expect(parseOllamaAddress(text)).toEqual({ url });
  });

  test('credentials go into a header and never into the address', () => {
    const { url, authorization } = parseOllamaAddress('http://me:s%40fe@gpu-box:1234');
    expect(url).toBe('http://gpu-box:1234');
    expect(authorization).toBe(`Basic ${Buffer.from('me:s@fe').toString('base64')}`);
  });

  test.each(['ftp://x', 'http://', 'a b', 'http://me:secret@:x'])('%j is refused without repeating it', (text) => {
    expect(() => parseOllamaAddress(text)).toThrow(/OLLAMA_HOST/);
    expect(() => parseOllamaAddress(text)).not.toThrow(/secret/);
  });
});
