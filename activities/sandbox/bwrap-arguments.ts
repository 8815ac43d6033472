export interface BwrapFence {
  /** directory on the host that becomes /work, the only one that outlives the run */
  readonly workspace: string;
  /** relative to the workspace; `` or `.` is the workspace itself */
  readonly cwd: string;
  readonly env: Readonly<Record<string, string>>;
  /** top-level entries of the host that are links into /usr, such as [`usr/bin`, `/bin`] */
  readonly links: readonly (readonly [target: string, path: string])[];
  /** top-level directories of the host that hold programs or libraries and are no links */
  readonly directories: readonly string[];
  /** a Node outside /usr, made visible as /opt/node/bin/node */
  readonly node: string | null;
  /** bubblewrap before 0.8 lacks the option */
  readonly disableUserns: boolean;
}

/** Where programs are found inside; the last is a Node that came from outside /usr. */
export const sandboxPath = '/usr/local/bin:/usr/bin:/bin:/opt/node/bin';
const scratchBytes = 64 * 1024 ** 2;

/**
 * Options of `bwrap`: no network, no process, user or file of the host but /usr and the workspace, nothing writable but the workspace and
 * two small scratch areas in memory that end with the run. They are handed over through `--args`, since the environment may hold
 * secrets and a command line can be read by every user of the machine.
 */
export function bwrapArguments(fence: BwrapFence): string[] {
  const environment = { PATH: sandboxPath, HOME: '/work', LANG: 'C.UTF-8', TMPDIR: '/tmp', ...fence.env };
  return [
    '--unshare-all',
    '--unshare-user',
    ...(fence.disableUserns ? ['--disable-userns'] : []),
    '--die-with-parent',
    '--new-session',
    '--cap-drop',
    'ALL',
    '--uid',
    '65534',
    '--gid',
    '65534',
    '--hostname',
    'sandbox',
    '--clearenv',
    ...Object.entries(environment).flatMap(([name, value]) => ['--setenv', name, value]),
    '--ro-bind',
    '/usr',
    '/usr',
    ...fence.links.flatMap(([target, path]) => ['--symlink', target, path]),
    ...fence.directories.flatMap((path) => ['--ro-bind', path, path]),
    '--ro-bind-try',
    '/etc/alternatives',
    '/etc/alternatives',
    '--ro-bind-try',
    '/etc/ld.so.cache',
    '/etc/ld.so.cache',
    ...(fence.node === null ? [] : ['--ro-bind-try', fence.node, '/opt/node/bin/node']),
    '--proc',
    '/proc',
    '--dev',
    '/dev',
    // Without sizes these two would hold half of the machine's memory each.
    '--size',
    String(scratchBytes),
    '--tmpfs',
    '/dev/shm',
    '--size',
    String(scratchBytes),
    '--tmpfs',
    '/tmp',
    '--bind',
    fence.workspace,
    '/work',
    '--remount-ro',
    '/dev',
    '--remount-ro',
    '/',
    '--chdir',
    fence.cwd === '' || fence.cwd === '.' ? '/work' : `/work/${fence.cwd}`,
  ]; // prettier-ignore
}
