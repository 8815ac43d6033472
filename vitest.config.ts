import { existsSync, readdirSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { defineConfig } from 'vitest/config';

const servers = './test/support/global-setup.ts';

/** Integration tests that ask for Ollama; they share its one resident model, so they run one after another like those of test/models. */
const integration = 'test/integration';
const askingForOllama = (existsSync(integration) ? readdirSync(integration, { recursive: true, encoding: 'utf8' }) : [])
  .map((file) => path.posix.join(integration, file.split(path.sep).join('/')))
  .filter((file) => file.endsWith('.test.ts') && readFileSync(file, 'utf8').includes('ollamaAddress('));
const oneAfterAnother = ['test/models/**/*.test.ts', 'test/e2e/**/*.test.ts', ...askingForOllama];

export default defineConfig({
  test: {
    // Temporal's native core crashes in worker threads.
    pool: 'forks',
    setupFiles: './test/support/end-with-run.ts',
    // Real servers on two busy cores; a test that needs more says so itself.
    testTimeout: 60_000,
    hookTimeout: 60_000,
    teardownTimeout: 30_000,
    expect: { poll: { timeout: 15_000 } },
    // vitest refuses projects with different numbers of workers in one group, so the groups run in this order.
    projects: [
      { extends: true, test: { name: 'unit', include: ['test/unit/**/*.test.ts'], maxWorkers: 2, sequence: { groupOrder: 1 } } },
      {
        extends: true,
        test: {
          name: 'integration',
          include: ['test/integration/**/*.test.ts'],
          exclude: askingForOllama,
          globalSetup: servers,
          maxWorkers: 2,
          sequence: { groupOrder: 2 },
        },
      },
      { extends: true, test: { name: 'models', include: oneAfterAnother, globalSetup: servers, fileParallelism: false, sequence: { groupOrder: 3 } } },
    ],
  },
});
