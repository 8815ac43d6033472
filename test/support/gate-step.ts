import { z } from 'zod';
import { defineStep, type StepDefinition } from '../../activities/steps/define-step.js';
import { StepFailure } from '../../contract/failure.js';

/** A step that the test holds, lets go or makes fail; a test-only step type, registered like any other. */
export interface Gates {
  readonly step: StepDefinition;
  /** names of the gates that a step stands before, in order of arrival */
  readonly arrived: string[];
  /** names of steps that were aborted */
  readonly aborted: string[];
  open(name: string): void;
  /** The next steps to arrive at this gate fail, as often as said. */
  failNext(name: string, times: number, options?: { retryable?: boolean }): void;
}

export function createGates(): Gates {
  const open = new Set<string>();
  const waiting = new Map<string, Set<() => void>>();
  const failures = new Map<string, { times: number; retryable: boolean }>();
  const arrived: string[] = [];
  const aborted: string[] = [];
  return {
    arrived,
    aborted,
    open(name) {
      open.add(name);
      for (const release of waiting.get(name) ?? []) release();
    },
    failNext(name, times, { retryable = true } = {}) {
      failures.set(name, { times, retryable });
    },
    step: defineStep({
      type: 'gate',
      summary: 'Wait until the test opens a gate.',
      input: z.object({ name: z.string().min(1), text: z.string().optional() }),
      output: z.object({ name: z.string(), text: z.string() }),
      policy: { pool: 'general', startToCloseMs: 60_000, attempts: 3 },
      example: '- { type: gate, name: first }',
      async run({ name, text }, { signal }) {
        arrived.push(name);
        const failure = failures.get(name);
        if (failure && failure.times > 0) {
          failure.times -= 1;
          throw new StepFailure('gate_failed', `gate ${name} was told to fail`, { retryable: failure.retryable });
        }
        if (!open.has(name)) {
          await new Promise<void>((resolve, reject) => {
            const releases = waiting.get(name) ?? new Set();
            waiting.set(name, releases.add(resolve));
            signal.addEventListener('abort', () => {
              aborted.push(name);
              reject(new Error('aborted'));
            });
          });
        }
        return { name, text: text ?? name };
      },
    }) as unknown as StepDefinition,
  };
}

/** Templates of gates: `gate-one` has one step, `gate-two` two, the second showing the output of the first. */
export const gateTemplates = {
  'gate-one': [
    'name: gate-one',
    'description: One gate',
    'parameters:',
    '  - { name: gate, type: string, required: true }',
    'steps:',
    '  - { type: gate, name: "{{gate}}" }',
  ].join('\n'),
  'gate-two': [
    'name: gate-two',
    'description: Two gates',
    'parameters:',
    '  - { name: first, type: string, required: true }',
    '  - { name: second, type: string, required: true }',
    'steps:',
    '  - { id: one, type: gate, name: "{{first}}", retry: { max_attempts: 3, initial_interval_seconds: 0.05, max_interval_seconds: 0.1 } }',
    '  - { id: two, type: gate, name: "{{second}}", text: "after {{steps.one.name}}" }',
  ].join('\n'),
};
