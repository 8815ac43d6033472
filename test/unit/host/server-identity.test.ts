import { describe, expect, test } from 'vitest';
import { type MachineFacts, serverIdentity } from '../../../host/server-identity.js';

const names: Record<string, string[]> = {
  localhost: ['127.0.0.1', '::1'],
  desk: ['192.168.1.5'],
  other: ['192.168.1.6'],
  'gpu.example.org': ['203.0.113.7'],
  'llm-a.example.org': ['203.0.113.9'],
  'llm-b.example.org': ['203.0.113.9'],
  ollama: ['172.18.0.2'],
};
const desk: MachineFacts = {
  machine: 'boot-1',
  network: 'net-1',
  own: new Set(['127.0.0.1', '::1', '192.168.1.5', '172.17.0.1']),
  resolve: async (name) => names[name] ?? [],
};
const shelf: MachineFacts = { ...desk, machine: 'boot-2', own: new Set(['127.0.0.1', '192.168.1.6', '172.17.0.1']) };
const container: MachineFacts = { ...desk, network: 'net-2', own: new Set(['127.0.0.1', '172.18.0.5']) };

describe('which server an address means', () => {
  const same = async (one: [string, MachineFacts], other: [string, MachineFacts]) => (await serverIdentity(...one)) === (await serverIdentity(...other));

  test.each([
    ['http://127.0.0.1:11434', 'http://localhost:11434'],
    ['http://127.0.0.1:11434', 'http://[::1]:11434/'],
    ['http://127.0.0.1:11434', 'http://desk:11434'],
    ['http://192.168.1.5:11434', 'http://localhost:11434'],
    ['http://other:11434', 'http://192.168.1.6:11434'],
    ['http://GPU.example.org:11434', 'http://203.0.113.7:11434'],
  ])('%s and %s are one server to one machine [MODEL-17]', async (one, other) => {
    expect(await same([one, desk], [other, desk])).toBe(true);
  });

  test.each([
    ['http://127.0.0.1:11434', 'http://127.0.0.1:11435'],
    ['http://127.0.0.1:11434', 'http://other:11434'],
    ['http://gpu.example.org/one', 'http://gpu.example.org/two'],
    ['https://llm-a.example.org', 'https://llm-b.example.org'],
  ])('%s and %s are two [MODEL-17]', async (one, other) => {
    expect(await same([one, desk], [other, desk])).toBe(false);
  });

  test('the same address is another server on another machine, where it is one of the machine alone [MODEL-17]', async () => {
    for (const address of ['http://127.0.0.1:11434', 'http://ollama:11434', 'http://172.17.0.9:11434', 'http://nobody-knows:11434'])
      expect(await same([address, desk], [address, shelf])).toBe(false);
    expect(await same(['http://127.0.0.1:11434', desk], ['http://127.0.0.1:11434', container])).toBe(false);
    expect(await same(['http://ollama:11434', desk], ['http://172.18.0.2:11434', container])).toBe(true);
  });

  test('an address that means the same everywhere is one server to all machines [MODEL-17]', async () => {
    for (const address of ['http://gpu.example.org:11434', 'https://llm-a.example.org']) expect(await same([address, desk], [address, shelf])).toBe(true);
  });
});
