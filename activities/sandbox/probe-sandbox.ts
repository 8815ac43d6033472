import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Logger } from 'pino';
import { StepFailure } from '../../contract/failure.js';
import { fencePath, runAsUid, runInBwrap, runUnfenced } from './fence-levels.js';
import type { RunRequest, RunResult, Sandbox, SandboxLevel } from './sandbox.js';

export interface SandboxSettings {
  /** `auto`: the strongest fence that works, down to `minimum`. `require`: bubblewrap or nothing. `off`: no bubblewrap; as root another user, else limits alone. */
  readonly setting: 'auto' | 'require' | 'off';
  /** the weakest fence that `auto` may take */
  readonly minimum: SandboxLevel;
  readonly log: Logger;
  /** where bubblewrap is looked for: directories with colons between them; the system's own when left out */
  readonly searchPath?: string;
}

/** Why no script may run here, and what a person can do about it. */
export interface SandboxRefusal {
  readonly reason: string;
  readonly remedy: string;
}

/** A sandbox as it was found at the start; with a refusal, every run ends as `sandbox_unavailable`. */
export interface ProbedSandbox extends Sandbox {
  readonly refusal: SandboxRefusal | null;
}

type Run = (request: RunRequest) => Promise<RunResult>;

const strength: Record<SandboxLevel, number> = { none: 0, uid: 1, bwrap: 2 };
const weaker: Record<Exclude<SandboxLevel, 'bwrap'>, string> = {
  uid: 'scripts run as another user, with limits, but can use the network and read what every user of this machine can read',
  none: 'scripts run as the user of this program, with limits alone: they can read and write what it can and use the network',
};

/**
 * Finds out how scripts can be fenced here by running one in each kind of fence, strongest first: that a program is installed says
 * little, since containers often forbid what it needs. Never weaker than the settings allow, and weaker than bubblewrap only with a warning.
 */
export async function probeSandbox({ setting, minimum, log, searchPath = fencePath }: SandboxSettings): Promise<ProbedSandbox> {
  const isRoot = process.getuid?.() === 0;
  const failures: string[] = [];
  const atLeast: SandboxLevel = setting === 'require' ? 'bwrap' : setting === 'off' ? 'none' : minimum;
  for (const [level, run] of candidates(setting, isRoot, searchPath)) {
    if (strength[level] < strength[atLeast]) continue;
    const problem = await tryRun(run);
    if (problem !== null) {
      failures.push(`${level}: ${problem}`);
      continue;
    }
    if (level === 'bwrap') log.info({ sandbox: level }, 'scripts run in bubblewrap');
    else log.warn({ sandbox: level, failures }, `scripts are fenced weakly: ${weaker[level]}`);
    return { level, refusal: null, run };
  }
  const refusal: SandboxRefusal = {
    reason: failures.length === 0 ? `no fence of at least level ${atLeast} exists for this user` : failures.join('; '),
    remedy: `install bubblewrap (apt-get install bubblewrap) and allow user namespaces, or allow a weaker fence with ${setting === 'require' ? 'SANDBOX=auto and ' : ''}SANDBOX_MIN=uid (as root) or SANDBOX_MIN=none`,
  };
  log.warn({ ...refusal }, 'scripts are refused: they cannot be fenced');
  return {
    level: 'none',
    refusal,
    run: () =>
      Promise.reject(
        new StepFailure('sandbox_unavailable', `scripts cannot be fenced on this machine (${refusal.reason}); ${refusal.remedy}`, {
          retryable: false,
          details: { ...refusal },
        }),
      ),
  };
}

function candidates(setting: SandboxSettings['setting'], isRoot: boolean, searchPath: string): (readonly [SandboxLevel, Run])[] {
  // Older bubblewrap does not know the option; the second try is without it.
  const bwrap = [true, false].map((disableUserns) => ['bwrap', (request: RunRequest) => runInBwrap(request, { disableUserns, searchPath })] as const);
  return [
    ...(setting === 'off' ? [] : bwrap),
    // A script never runs as root, whatever the settings say.
    isRoot ? (['uid', runAsUid] as const) : (['none', runUnfenced] as const),
  ];
}

async function tryRun(run: Run): Promise<string | null> {
  const workspace = await mkdtemp(join(tmpdir(), 'sandbox-probe-'));
  try {
    const result = await run({
      argv: ['sh', '-c', 'echo fenced'],
      workspace,
      cwd: '.',
      env: {},
      timeoutMs: 10_000,
      outputBytes: 4096,
      diskBytes: 1e6,
      memoryBytes: 0,
      signal: new AbortController().signal,
    });
    return result.exitCode === 0 && result.stdout.trim() === 'fenced' ? null : `exit code ${result.exitCode}: ${result.stderr.trim().slice(-300)}`;
  } catch (error) {
    return error instanceof Error ? error.message : String(error);
  } finally {
    await rm(workspace, { recursive: true, force: true });
  }
}
