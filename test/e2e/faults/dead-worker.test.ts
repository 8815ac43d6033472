import path from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { packageRoot } from '../../../config.js';
import { readReadiness } from '../../../mains/process-file.js';
import { createSupervisor, type Supervisor } from '../../../mains/supervise.js';
import { createEffects } from '../../support/effects/effects.js';
import { startTemporalEffects, type TemporalEffectsProxy } from '../../support/effects/temporal-effects.js';
import { type Installation, startInstallation } from '../../support/installation.js';
import { eventually, temporalAddress } from '../../support/servers.js';

const templates = { plain: ['name: plain', 'description: No model', 'steps:', '  - { type: format_output, format: text, data: done }'].join('\n') };

let temporal: TemporalEffectsProxy;
let orchestra: Installation;
let supervisor: Supervisor;

beforeAll(async () => {
  temporal = await startTemporalEffects(temporalAddress(), createEffects());
  orchestra = await startInstallation({ templates, engine: false });
  supervisor = createSupervisor({ home: orchestra.config.home, say: () => {} });
}, 120_000);
afterAll(async () => {
  await supervisor?.stop('engine');
  await orchestra?.stop();
  await temporal?.close();
});

const engine = async () => (await orchestra.request('GET', '/api/v1/health')).body.checks.engine.status as string;

test('an engine whose worker dies ends, is seen to be missing, and is started again until it works; nothing is lost meanwhile [fault-10]', async () => {
  const { home } = orchestra.config;
  const cli = path.join(packageRoot(), 'cli', 'main.ts');
  const { pid } = await supervisor.start({
    name: 'engine',
    file: process.execPath,
    args: ['--import', 'tsx', cli, 'engine'],
    cwd: packageRoot(),
    env: {
      PATH: process.env['PATH'] ?? '',
      HOME: process.env['HOME'] ?? '',
      ORCHESTRA_HOME: home,
      DATABASE_URL: orchestra.database.url,
      TEMPORAL_ADDRESS: `127.0.0.1:${temporal.port}`,
      TEMPORAL_NAMESPACE: orchestra.config.temporal.namespace,
      SHUTDOWN_GRACE_SECONDS: '1',
      ORCHESTRA_PROVIDED: '', // as `orchestra up` starts it
    },
    port: null,
    version: 'test',
    ready: async (child) => (await readReadiness(home, 'engine'))?.pid === child,
    readyTimeoutMs: 120_000,
    stopSignal: 'SIGTERM',
    stopTimeoutMs: 30_000,
  });
  await eventually(async () => (await engine()) === 'ok');

  // The server refuses its worker for good, as it does where rights were taken away; the SDK ends the worker then.
  temporal.refuse('PollWorkflowTaskQueue');
  temporal.cut();
  await eventually(async () => (await engine()) === 'down', { timeoutMs: 120_000 });
  const task = await orchestra.submit('plain', {});
  await eventually(() => ![null, pid].includes(supervisor.pidOf('engine')), { timeoutMs: 60_000 });
  expect(await orchestra.task(task.id)).toMatchObject({ status: 'queued' });

  temporal.refuse(undefined);
  expect(await orchestra.finished(task.id, 120_000)).toMatchObject({ status: 'completed' });
  expect(await engine()).toBe('ok');
}, 300_000);
