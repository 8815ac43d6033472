import { expect, test } from 'vitest';
import { bwrapArguments } from '../../../activities/sandbox/bwrap-arguments.js';
import { prlimitArguments } from '../../../activities/sandbox/prlimit-arguments.js';

const fence = {
  workspace: '/data/w',
  cwd: 'repository',
  env: { LEVEL: '2' },
  links: [['usr/bin', '/bin']] as const,
  directories: ['/lib64'],
  node: null,
  disableUserns: true,
};

test('the fence is exactly this: own namespaces, no network, /usr to read, the workspace to write, nothing else [ML-16]', () => {
  expect(bwrapArguments(fence).join(' ')).toBe(
    [
      '--unshare-all --unshare-user --disable-userns --die-with-parent --new-session --cap-drop ALL --uid 65534 --gid 65534 --hostname sandbox',
      '--clearenv --setenv PATH /usr/local/bin:/usr/bin:/bin:/opt/node/bin --setenv HOME /work --setenv LANG C.UTF-8 --setenv TMPDIR /tmp --setenv LEVEL 2',
      '--ro-bind /usr /usr --symlink usr/bin /bin --ro-bind /lib64 /lib64 --ro-bind-try /etc/alternatives /etc/alternatives --ro-bind-try /etc/ld.so.cache /etc/ld.so.cache',
      '--proc /proc --dev /dev --size 67108864 --tmpfs /dev/shm --size 67108864 --tmpfs /tmp --bind /data/w /work --remount-ro /dev --remount-ro / --chdir /work/repository',
    ].join(' '),
  );
});

test('an older bubblewrap is not given the option it lacks, and a Node outside /usr is made visible', () => {
  const options = bwrapArguments({ ...fence, cwd: '.', disableUserns: false, node: '/home/me/node' });
  expect(options).not.toContain('--disable-userns');
  expect(options.join(' ')).toContain('--ro-bind-try /home/me/node /opt/node/bin/node');
  expect(options.slice(-2)).toEqual(['--chdir', '/work']);
});

test('limits bind processor time, files, processes and memory, and no core is dumped [TASK-16]', () => {
  expect(prlimitArguments({ timeoutMs: 1500, diskBytes: 1000, memoryBytes: 10 }, 3, 2)).toEqual([
    '--cpu=5',
    '--fsize=1000',
    '--nofile=1024',
    '--nproc=515',
    '--as=12884901898',
    '--core=0',
  ]);
  expect(prlimitArguments({ timeoutMs: 1, diskBytes: 1, memoryBytes: 0 }).join()).not.toContain('--as');
});
