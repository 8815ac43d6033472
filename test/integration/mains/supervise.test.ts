import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, onTestFinished, test } from 'vitest';
import { isLive, processStartTime, readProcessFile, readReadiness, writeProcessFile } from '../../../mains/process-file.js';
import { ChildFailed, type ChildSpec, type Supervisor, createSupervisor } from '../../../mains/supervise.js';
import { eventually } from '../../support/servers.js';

/** A child as small as a main can be: says that it is ready, and ends on SIGTERM when it has drained. */
const script = (onTerm: string) => `
  import { appendFileSync, mkdirSync, writeFileSync } from 'node:fs';
  const home = process.argv[1];
  process.on('SIGTERM', () => { ${onTerm} });
  mkdirSync(home + '/run', { recursive: true });
  writeFileSync(home + '/run/child.ready', JSON.stringify({ pid: process.pid, port: null }));
  setInterval(() => {}, 1000);`;
const drains = "appendFileSync(home + '/ends', 'drained'); process.exit(0);";
const neverEnds = "appendFileSync(home + '/ends', 'asked');";

async function setting(onTerm = drains) {
  const home = await mkdtemp(join(tmpdir(), 'supervise-'));
  const said: string[] = [];
  const make = () => createSupervisor({ home, say: (line) => said.push(line), backoffMs: { first: 10, longest: 40 }, watchEveryMs: 20 });
  const supervisor = make();
  onTestFinished(async () => {
    const left = await readProcessFile(home, 'child');
    if (left !== null && (await isLive(left))) process.kill(left.pid, 'SIGKILL');
    await rm(home, { recursive: true, force: true });
  });
  const spec: ChildSpec = {
    name: 'child',
    file: process.execPath,
    args: ['--input-type=module', '-e', script(onTerm), home],
    port: null,
    version: '1',
    ready: async (pid) => (await readReadiness(home, 'child'))?.pid === pid,
    readyTimeoutMs: 20_000,
    stopSignal: 'SIGTERM',
    stopTimeoutMs: 20_000,
  };
  return { home, said, make, supervisor, spec };
}

/** Another start, whose supervisor is then killed as by kill -9: it does nothing any more, and the child lives on. */
async function leftBehind(home: string, spec: ChildSpec): Promise<number> {
  const child = spawn(spec.file, spec.args, { detached: true, stdio: 'ignore' });
  const pid = child.pid as number;
  child.unref();
  await eventually(() => spec.ready(pid));
  await writeProcessFile(home, 'child', { pid, startTime: (await processStartTime(pid)) ?? '', port: spec.port, version: spec.version });
  return pid;
}

const endOf = async (supervisor: Supervisor, home: string) => {
  await supervisor.stop('child');
  return readFile(join(home, 'ends'), 'utf8');
};

test('a child has a file that tells its process, and none when it was stopped', async () => {
  const { home, supervisor, spec } = await setting();
  const { pid, adopted } = await supervisor.start(spec);
  expect(adopted).toBe(false);
  expect(await readProcessFile(home, 'child')).toEqual({ pid, startTime: await processStartTime(pid), port: null, version: '1' });
  expect(await endOf(supervisor, home)).toBe('drained');
  expect(await readProcessFile(home, 'child')).toBeNull();
  expect(await processStartTime(pid)).toBeNull();
});

test('a child that is killed is started again [fault-35]', async () => {
  const { supervisor, spec, said } = await setting();
  const { pid } = await supervisor.start(spec);
  for (let before = pid, kills = 0; kills < 2; kills++) {
    process.kill(before, 'SIGKILL');
    before = await eventually(async () => {
      const now = supervisor.pidOf('child');
      return now !== null && now !== before && (await spec.ready(now)) ? now : false;
    });
  }
  expect(said.filter((line) => line.includes('started again'))).toEqual(['child: ended; started again in 10 ms', 'child: ended; started again in 20 ms']);
  await supervisor.stop('child');
});

test('a child that a killed supervisor left is adopted, watched and stopped like an own one', async () => {
  const { home, supervisor, spec } = await setting();
  const left = await leftBehind(home, spec);
  expect(await supervisor.start(spec)).toEqual({ pid: left, adopted: true });
  process.kill(left, 'SIGKILL');
  await eventually(async () => {
    const now = supervisor.pidOf('child');
    return now !== null && now !== left && (await spec.ready(now));
  });
  expect(await endOf(supervisor, home)).toBe('drained');
});

test('a child of another version is ended and replaced', async () => {
  const { home, supervisor, spec, said } = await setting();
  const left = await leftBehind(home, spec);
  const { pid, adopted } = await supervisor.start({ ...spec, version: '2' });
  expect(adopted).toBe(false);
  expect(pid).not.toBe(left);
  expect(await processStartTime(left)).toBeNull();
  expect(said.join('\n')).toContain('is version 1 and is replaced');
  await supervisor.stop('child');
});

test('a file whose process is gone is cleared', async () => {
  const { home, supervisor, spec, said } = await setting();
  const gone = spawn(process.execPath, ['-e', '']);
  await once(gone, 'exit');
  await writeProcessFile(home, 'child', { pid: gone.pid as number, startTime: '1', port: null, version: '1' });
  expect((await supervisor.start(spec)).adopted).toBe(false);
  expect(said).toContain(`child: cleared the file of process ${gone.pid}, which is gone`);
  await supervisor.stop('child');
});

test('a process that got the number of a dead child is neither adopted nor touched', async () => {
  const { home, supervisor, spec } = await setting();
  const stranger = spawn(process.execPath, ['-e', 'setInterval(() => {}, 1000)'], { stdio: 'ignore' });
  onTestFinished(() => void stranger.kill('SIGKILL'));
  await writeProcessFile(home, 'child', { pid: stranger.pid as number, startTime: '1', port: null, version: '1' });
  expect((await supervisor.start(spec)).pid).not.toBe(stranger.pid);
  await supervisor.stop('child');
  expect(await processStartTime(stranger.pid as number)).not.toBeNull();
});

test('a file cut in the middle is as good as none', async () => {
  const { home, supervisor, spec } = await setting();
  await supervisor.start(spec);
  await supervisor.stop('child');
  await writeFile(join(home, 'run', 'child.json'), '{"pid": 1');
  expect((await supervisor.start(spec)).adopted).toBe(false);
  await supervisor.stop('child');
});

test('a child that does not end when asked is cut after its time', async () => {
  const { home, supervisor, spec, said } = await setting(neverEnds);
  await supervisor.start({ ...spec, stopTimeoutMs: 200 });
  expect(await endOf(supervisor, home)).toBe('asked');
  expect(said.join('\n')).toContain('and is cut');
});

test('a cut ends a child that is draining, at once [DUR-11]', async () => {
  const { home, supervisor, spec } = await setting(neverEnds);
  const { pid } = await supervisor.start({ ...spec, stopTimeoutMs: 3_600_000 });
  const stopped = supervisor.stop('child');
  await eventually(async () => (await readFile(join(home, 'ends'), 'utf8')) === 'asked');
  await supervisor.cut();
  await stopped;
  expect(await processStartTime(pid)).toBeNull();
});

test('a restart ends a child cleanly before the next one begins', async () => {
  const { home, supervisor, spec } = await setting();
  const { pid } = await supervisor.start(spec);
  await supervisor.restart('child');
  expect(await readFile(join(home, 'ends'), 'utf8')).toBe('drained');
  expect(supervisor.pidOf('child')).not.toBe(pid);
  await supervisor.stop('child');
});

test.each([
  ['that ends at once', ['-e', 'console.error("the port is taken"); process.exit(1)']],
  ['that does not exist', null],
])('a child %s fails the start with what it said last', async (_case, args) => {
  const { supervisor, spec } = await setting();
  const failing = supervisor.start(args === null ? { ...spec, file: '/nonexistent/program' } : { ...spec, args });
  await expect(failing).rejects.toThrow(ChildFailed);
  await expect(failing).rejects.toThrow(args === null ? /see .*child\.log/ : /child ended before it served: the port is taken/);
});
