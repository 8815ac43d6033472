import { once } from 'node:events';
import { chmod, mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { cachedOllama } from '../../../activities/backends/server/build-ollama.js';
import { ollamaCommand, ollamaVersion, ollamaVersionMin, ollamaVersionWarning } from '../../../activities/backends/server/ollama-command.js';
import { findOllama, findOllamaBinary } from '../../../activities/backends/server/provide-ollama.js';

let dir: string;
beforeEach(async () => {
  dir = await mkdtemp(path.join(tmpdir(), 'provide-test-'));
});
afterEach(() => rm(dir, { recursive: true }));

async function executable(file: string): Promise<string> {
  await mkdir(path.dirname(file), { recursive: true });
  await writeFile(file, '#!/bin/sh\n');
  await chmod(file, 0o755);
  return file;
}

describe('which Ollama is taken', () => {
  test('one on the PATH comes before the cache, and what is no executable file is passed over', async () => {
    const bin = path.join(dir, 'bin');
    const cached = await executable(cachedOllama(dir));
    await mkdir(path.join(dir, 'folder', 'ollama'), { recursive: true });
    const searched = ['', path.join(dir, 'absent'), path.join(dir, 'folder'), bin].join(path.delimiter);
    expect(await findOllamaBinary(searched, dir)).toEqual({ kind: 'cache', binary: cached });
    const onPath = await executable(path.join(bin, 'ollama'));
    expect(await findOllamaBinary(searched, dir)).toEqual({ kind: 'path', binary: onPath });
    expect(await findOllamaBinary('', path.join(dir, 'other'))).toBeNull();
  });

  test('the one that OLLAMA_HOST names comes first, and an old one is warned about [MODEL-01]', async () => {
    const said: string[] = [];
    const server = await answering('{"version":"0.12.0"}');
    try {
      const address = `127.0.0.1:${(server.address() as AddressInfo).port}`;
      expect(await findOllama({ address, path: '', cacheDir: dir, say: (line) => said.push(line) })).toEqual({
        kind: 'given',
        address: `http://${address}`,
        version: '0.12.0',
      });
      expect(said.join('\n')).toContain(ollamaVersionMin);
    } finally {
      server.close();
    }
  });

  test.each(['<html>', '{}', '[]'])('a server that answers %s is no Ollama', async (body) => {
    const server = await answering(body);
    try {
      const found = await findOllama({ address: `127.0.0.1:${(server.address() as AddressInfo).port}`, path: '', cacheDir: dir, say: () => {} });
      expect(found).toMatchObject({ kind: 'unavailable', reason: expect.stringContaining('OLLAMA_HOST'), remedy: expect.stringContaining('unset') });
    } finally {
      server.close();
    }
  });
});

test('versions older than we support are warned about, and an unknown one of a source build [MODEL-01]', () => {
  for (const doubtful of ['0.17.0', '0.0.0']) expect(ollamaVersionWarning(doubtful)).toContain(ollamaVersionMin);
  for (const good of [ollamaVersionMin, ollamaVersion, '0.32.4', '1.0.0']) expect(ollamaVersionWarning(good)).toBeNull();
});

test('our own server listens on loopback, has no cloud and sees no secret', () => {
  const settings = { port: 5000, modelsDir: '/home/x/models', homeDir: '/home/x', maxLoadedModels: 2, parallel: 3 };
  const { env, args } = ollamaCommand('/bin/ollama', settings, {
    PATH: '/bin',
    OLLAMA_API_KEY: 'secret',
    DATABASE_URL: 'postgres://u:secret@h/d',
    HOME: '/root',
    OLLAMA_HOST: '0.0.0.0',
  });
  expect(args).toEqual(['serve']);
  expect(env).toEqual({
    PATH: '/bin',
    HOME: '/home/x',
    OLLAMA_HOST: 'http://127.0.0.1:5000',
    OLLAMA_MODELS: '/home/x/models',
    OLLAMA_NO_CLOUD: '1',
    OLLAMA_MAX_LOADED_MODELS: '2',
    OLLAMA_NUM_PARALLEL: '3',
  });
});

async function answering(body: string): Promise<Server> {
  const server = createServer((_, response) => response.end(body)).listen(0, '127.0.0.1');
  await once(server, 'listening');
  return server;
}
