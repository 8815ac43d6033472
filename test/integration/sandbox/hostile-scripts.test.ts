import { spawn } from 'node:child_process';
import { mkdir, mkdtemp, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import type { ProbedSandbox } from '../../../activities/sandbox/probe-sandbox.js';
import { removeTree } from '../../../activities/workspace.js';
import { levels, processesWith, request, sandboxes, uniqueSleep } from './sandboxes.js';

let found: ProbedSandbox[];
let workspace: string;
beforeAll(async () => {
  found = await sandboxes();
});
beforeEach(async () => {
  workspace = await mkdtemp(join(tmpdir(), 'hostile-'));
});
afterEach(() => rm(workspace, { recursive: true, force: true }));

const shell = (script: string): string[] => ['sh', '-c', script];

describe.each(levels)('in a sandbox of level %s', (level) => {
  const sandbox = (): ProbedSandbox => {
    const one = found.find((candidate) => candidate.level === level);
    if (!one) throw new Error(`level ${level} is not to be had here`);
    return one;
  };

  test('a program gets its arguments unread by any shell, and its exit code, output and errors come back [TPL-09]', async () => {
    const result = await sandbox().run(request(workspace, ['sh', '-c', 'printf "%s|" "$@"; echo bad >&2; exit 7', 'sh', 'a;b', '$(id)', '-c', '']));
    expect(result).toMatchObject({ exitCode: 7, stdout: 'a;b|$(id)|-c||', stderr: 'bad\n', truncated: false, level });
  });

  test('a script that ignores SIGTERM and never ends is killed at its time limit, which is named [bad-26, TASK-16]', async () => {
    const sleep = uniqueSleep();
    const run = sandbox().run(request(workspace, shell(`trap '' TERM; echo begun; sleep ${sleep} & while :; do :; done`), { timeoutMs: 700 }));
    await expect(run).rejects.toMatchObject({ code: 'limit_exceeded', retryable: false, details: { limit: 'timeout_seconds', stdout: 'begun\n' } });
    expect(await processesWith(sleep)).toEqual([]);
  });

  test('a script may end by itself on SIGTERM before it is killed', async () => {
    const run = sandbox().run(request(workspace, shell('trap "echo saved; exit 0" TERM; echo begun; while :; do sleep 0.05; done'), { timeoutMs: 700 }));
    await expect(run).rejects.toMatchObject({ code: 'limit_exceeded', details: { stdout: 'begun\nsaved\n' } });
  });

  test('a daemon in a session of its own ends with the script that started it [bad-27]', async () => {
    const sleep = uniqueSleep();
    const result = await sandbox().run(request(workspace, shell(`setsid nohup sleep ${sleep} >/dev/null 2>&1 & setsid sleep ${sleep} & exit 0`)));
    expect(result.exitCode).toBe(0);
    expect(await processesWith(sleep)).toEqual([]);
  });

  test('an abort ends every process before the run is given back', async () => {
    const sleep = uniqueSleep();
    const abort = new AbortController();
    const run = sandbox().run(request(workspace, shell(`setsid sleep ${sleep} & touch begun; sleep ${sleep}`), { signal: abort.signal }));
    await expect.poll(() => readdir(workspace)).toContain('begun');
    abort.abort(new Error('cancelled by its owner'));
    await expect(run).rejects.toThrow('cancelled by its owner');
    expect(await processesWith(sleep)).toEqual([]);
  });

  test('a worker killed without a chance to clean up leaves no process of a script [fault-6]', async () => {
    const sleep = uniqueSleep();
    const code = `
      import { sandboxes, request } from ${JSON.stringify(new URL('./sandboxes.ts', import.meta.url).href)};
      const one = (await sandboxes()).find(({ level }) => level === ${JSON.stringify(level)});
      await one.run(request(${JSON.stringify(workspace)}, ['sh', '-c', 'setsid sleep ${sleep} & sleep ${sleep}']));`;
    const script = join(workspace, '..', `worker-${sleep}.mts`);
    await writeFile(script, code);
    const worker = spawn(process.execPath, ['--import', import.meta.resolve('tsx'), script], { stdio: 'inherit' });
    const sleeping = async (): Promise<number> => (await processesWith(sleep)).filter((line) => line.startsWith('sleep\0')).length;
    await expect.poll(sleeping, { timeout: 20_000 }).toBe(2);
    worker.kill('SIGKILL');
    await expect.poll(() => processesWith(`sleep\0${sleep}`), { timeout: 10_000 }).toEqual([]);
    await rm(script);
  }, 40_000);

  test('a fork bomb ends with its run and the machine stays usable [bad-27]', async () => {
    const marker = `bomb_${uniqueSleep().replace('.', '_')}`;
    await writeFile(join(workspace, marker), 'b() { b | b & b; }; b\n', { mode: 0o644 });
    const run = sandbox().run(request(workspace, ['sh', `./${marker}`], { timeoutMs: 1000 }));
    await run.catch((error: unknown) => expect(error).toMatchObject({ code: 'limit_exceeded' }));
    expect(await processesWith(marker)).toEqual([]);
  });

  test('output beyond what is kept is counted and left out of the middle, in constant memory [bad-28]', async () => {
    const result = await sandbox().run(
      request(workspace, shell('echo first; head -c 30000000 /dev/zero | tr "\\0" x; echo; echo last'), { outputBytes: 1000 }),
    );
    expect(result.truncated).toBe(true);
    expect(result.stdoutBytes).toBe(30_000_012);
    expect(result.stdout).toMatch(/^first\nx+\n\[\.\.\. output left out \.\.\.\]\nx+\nlast\n$/);
  });

  test('a script that prints without end is stopped at its output limit, which is named [bad-28, TASK-16]', async () => {
    const run = sandbox().run(request(workspace, ['yes'], { outputBytes: 1000, outputBytesMax: 5_000_000 }));
    await expect(run).rejects.toMatchObject({ code: 'limit_exceeded', details: { limit: 'output_bytes', truncated: true } });
  });

  test('output that is not UTF-8 becomes text that can be stored [bad-28]', async () => {
    const result = await sandbox().run(request(workspace, shell("printf 'a\\377\\000b'")));
    expect(result.stdout).toBe('a\ufffd\ufffdb');
  });

  test('nothing of the environment of the worker reaches a script [bad-29, ML-16]', async () => {
    process.env.A_SECRET_OF_THE_WORKER = 'hunter2';
    const result = await sandbox().run(request(workspace, shell('env; cat /proc/$PPID/environ 2>/dev/null; echo'), { env: { OWN: 'yes' } }));
    delete process.env.A_SECRET_OF_THE_WORKER;
    expect(result.stdout).not.toContain('hunter2');
    expect(result.stdout).toContain('OWN=yes');
    const names = result.stdout.split('\n').flatMap((line) => /^([A-Z_]+)=/.exec(line)?.[1] ?? []);
    expect(new Set(names)).toEqual(new Set(['PATH', 'HOME', 'LANG', 'TMPDIR', 'OWN', 'PWD', ...(level === 'none' ? ['ORCHESTRA_RUN'] : [])]));
  });

  test('a file that outgrows the disk limit ends the script with the limit named [bad-30, TASK-16]', async () => {
    const run = sandbox().run(request(workspace, shell('head -c 10000000000 /dev/zero > big'), { diskBytes: 2_000_000 }));
    await expect(run).rejects.toMatchObject({ code: 'limit_exceeded', details: { limit: 'disk_gb' } });
    expect((await stat(join(workspace, 'big'))).size).toBeLessThanOrEqual(2_000_000);
  });

  test('many files that together pass the disk limit end the script [bad-30]', async () => {
    const run = sandbox().run(
      request(workspace, shell('i=0; while [ $i -lt 100 ]; do head -c 500000 /dev/zero > f$i; i=$((i+1)); done'), { diskBytes: 2_000_000 }),
    );
    await expect(run).rejects.toMatchObject({ code: 'limit_exceeded', details: { limit: 'disk_gb' } });
  });

  test('files below directories that are nested too deep to be measured end the script all the same [bad-30]', async () => {
    const code = 'import os\nfor _ in range(60): os.mkdir("d" * 100); os.chdir("d" * 100)\nopen("f", "wb").write(b"x" * 1900000)';
    const run = sandbox().run(request(workspace, ['python3', '-c', code], { diskBytes: 2_000_000 }));
    await expect(run).rejects.toMatchObject({ code: 'limit_exceeded', details: { limit: 'disk_gb' } });
    await removeTree(join(workspace, 'd'.repeat(100)));
  });

  test('neither PATH nor a preloaded library of the script gets around its limits [bad-27, bad-30]', async () => {
    await mkdir(join(workspace, 'bin'));
    await writeFile(join(workspace, 'bin/prlimit'), '#!/bin/sh\nwhile [ "$1" != -- ]; do shift; done; shift; exec "$@"\n', { mode: 0o755 });
    const place = level === 'bwrap' ? '/work' : workspace;
    const env = { PATH: `${place}/bin:/usr/bin:/bin`, LD_PRELOAD: `${place}/none.so` };
    const result = await sandbox().run(request(workspace, shell('cat /proc/self/limits'), { env }));
    expect(result.stdout).toMatch(/Max file size +100000000 +100000000 /);
    expect(Number(/Max processes +(\d+)/.exec(result.stdout)?.[1])).toBeLessThan(100_000);
    expect(result.stdout).not.toMatch(/Max (processes|file size) +unlimited/);
    expect(result.stdout).toMatch(/Max open files +1024 +1024 /);
  });

  test('a sparse file of a terabyte is refused [bad-30]', async () => {
    await sandbox()
      .run(request(workspace, shell('truncate -s 1T sparse'), { diskBytes: 2_000_000 }))
      .catch((error: unknown) => expect(error).toMatchObject({ code: 'limit_exceeded' }));
    const size = await stat(join(workspace, 'sparse')).then(
      (seen) => seen.size,
      () => 0,
    ); // prettier-ignore
    expect(size).toBeLessThanOrEqual(2_000_000);
  });

  test.each([
    ['at once', 'x = bytearray(50 << 30)'],
    ['bit by bit', 'x = []\nwhile True: x.append(bytearray(10 << 20))'],
  ])('a script that takes too much memory %s ends with the limit named [bad-30, TASK-16]', async (_, code) => {
    const run = sandbox().run(request(workspace, ['python3', '-c', code], { memoryBytes: 200e6 }));
    await expect(run).rejects.toMatchObject({ code: 'limit_exceeded', details: { limit: 'memory_gb' } });
  });

  test('a memory limit leaves room for what a runtime only reserves', async () => {
    const code = 'new WebAssembly.Memory({ initial: 1 }); console.log("ran")';
    expect((await sandbox().run(request(workspace, ['node', '-e', code], { memoryBytes: 500e6 }))).stdout).toBe('ran\n');
  });

  test('what a script writes belongs to a user without rights [ML-16]', async () => {
    await sandbox().run(request(workspace, shell('echo mine > file')));
    if (process.getuid?.() === 0) expect((await stat(join(workspace, 'file'))).uid).toBeGreaterThanOrEqual(65_000);
    expect(await readFile(join(workspace, 'file'), 'utf8')).toBe('mine\n');
  });

  test('a program that does not exist fails with exit code 127 [bad-25]', async () => {
    expect((await sandbox().run(request(workspace, ['no-such-program']))).exitCode).toBe(127);
  });

  test('two runs side by side keep to their own workspaces and processes [CONC-11]', async () => {
    const names = ['one', 'two'] as const;
    for (const name of names) await mkdir(join(workspace, name), { mode: 0o700 });
    // Limits alone cannot keep two programs of one user apart: there, such a script would end the test itself.
    const attack = (other: string): string => (level === 'none' ? 'true' : `cat ${other}/result; echo broken > ${other}/result; kill -9 -1`);
    const script = (name: string, other: string): string => `echo ${name} > result; sleep 0.2; ${attack(join(workspace, other))}; sleep 0.2; cat result`;
    const results = await Promise.all(
      names.map((name, at) =>
        (found.find((one) => one.level === level) as ProbedSandbox).run(request(join(workspace, name), shell(script(name, names[1 - at] as string)))),
      ),
    );
    expect(results.map(({ stdout }) => stdout)).toEqual(level === 'uid' ? [expect.any(String), expect.any(String)] : ['one\n', 'two\n']);
    for (const name of names) expect(await readFile(join(workspace, name, 'result'), 'utf8')).toBe(`${name}\n`);
  });
});

describe('in bubblewrap', () => {
  test('a script sees no file of the host but /usr, and writes nowhere but the workspace [bad-29, ML-16]', async () => {
    const outside = await mkdtemp(join(tmpdir(), 'outside-'));
    await writeFile(join(outside, 'secret'), 'hunter2');
    const result = await (found[0] as ProbedSandbox).run(
      request(
        workspace,
        shell(`cat ${outside}/secret /etc/passwd /etc/shadow /root/.ssh/* ~/.ssh/*; ls /home /root /var; touch /x /usr/x /etc/x /dev/x; echo $?`),
      ),
    );
    await rm(outside, { recursive: true });
    expect(result.stdout).toBe('1\n');
    expect(await readdir(workspace)).toEqual([]);
  });

  test('a script reaches no server of this machine and no metadata address [bad-29, ML-16]', async () => {
    const server = createServer((socket) => socket.end());
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    const { port } = server.address() as { port: number };
    const code = `
import socket
for host, port in [('127.0.0.1', ${port}), ('169.254.169.254', 80)]:
    try: socket.create_connection((host, port), 2); print('reached')
    except OSError as e: print('refused')`;
    const result = await (found[0] as ProbedSandbox).run(request(workspace, ['python3', '-c', code]));
    server.close();
    expect(result.stdout).toBe('refused\nrefused\n');
  });
});
