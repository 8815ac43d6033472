import { mkdir, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pino } from 'pino';
import { createGitClient } from '../../../activities/git/clone.js';
import { probeSandbox } from '../../../activities/sandbox/probe-sandbox.js';
import type { StepContext } from '../../../activities/steps/define-step.js';
import type { Usage } from '../../../contract/line.js';
import { createMemoryBackend } from '../../support/memory-backend.js';

export interface OwnContext extends StepContext {
  readonly home: string;
  readonly usage: Usage[];
  remove(): Promise<void>;
}

/** A step's surroundings in directories of their own; git takes `file`, scripts run in bubblewrap. */
export async function stepContext(changes: Partial<StepContext> = {}): Promise<OwnContext> {
  const log = pino({ level: 'silent' });
  const home = await mkdtemp(join(tmpdir(), 'step-'));
  const [workspace, resultsRoot, files] = ['workspace', 'results', 'files'].map((name) => join(home, name)) as [string, string, string];
  for (const directory of [workspace, resultsRoot, files]) await mkdir(directory, { mode: 0o700 });
  const sandbox = await probeSandbox({ setting: 'require', minimum: 'bwrap', log });
  if (sandbox.refusal) throw new Error(`these tests need bubblewrap: ${sandbox.refusal.reason}; ${sandbox.refusal.remedy}`);
  const usage: Usage[] = [];
  return {
    home,
    usage,
    signal: new AbortController().signal,
    taskId: '0197a000-0000-7000-8000-000000000001',
    attempt: 1,
    stepId: 'step',
    stepAttempt: 1,
    previous: null,
    workspace,
    resultsRoot,
    fileRoots: [files],
    limits: {
      outputBytes: 1_000_000,
      fileBytes: 1000,
      filesBytes: 2500,
      filesMax: 5,
      promptChars: 10_000,
      imagesMax: 3,
      imageBytes: 2000,
      embedInputs: 50,
      diskBytes: 50e6,
      memoryBytes: 0,
      timeoutMs: 20_000,
    },
    models: createMemoryBackend([]),
    sandbox,
    git: createGitClient({ allowedSchemes: ['file'], log }),
    stillMine: async () => true,
    output: () => undefined,
    progress: () => undefined,
    record: (one) => void usage.push(one),
    remove: () => rm(home, { recursive: true, force: true }),
    ...changes,
  };
}
