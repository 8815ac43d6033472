import type { ModelBackend } from '../../activities/backends/backend.js';
import type { StepContext, StepLimits } from '../../activities/steps/define-step.js';
import type { Usage } from '../../contract/line.js';

/** What a model step sees, without a process around it, and what it recorded. */
export function modelStepContext(models: ModelBackend, changes: Partial<StepContext> = {}, limits: Partial<StepLimits> = {}) {
  const records: Usage[] = [];
  const context = {
    signal: new AbortController().signal,
    taskId: '',
    attempt: 1,
    stepId: 'step',
    stepAttempt: 1,
    previous: null,
    workspace: '/nowhere/workspace',
    resultsRoot: '/nowhere/results',
    fileRoots: [],
    limits: {
      outputBytes: 100_000,
      fileBytes: 0,
      filesBytes: 0,
      filesMax: 0,
      promptChars: 1_000_000,
      imagesMax: 3,
      imageBytes: 10_000,
      embedInputs: 1_000,
      diskBytes: 0,
      memoryBytes: 0,
      timeoutMs: 1000,
      ...limits,
    },
    models,
    output() {},
    progress() {},
    record: (usage: Usage) => void records.push(usage),
    ...changes,
  } as unknown as StepContext;
  return { context, records };
}
