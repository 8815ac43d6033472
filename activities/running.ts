import { givesWaySuffix } from '../contract/holds.js';

/** Why a running step is aborted from this side; Temporal's own cancel has its own way. `gives_way`: it enters the line again. */
export type AbortReason = 'cancelled' | 'gives_way' | 'lease_lost' | 'shutdown';

/** The steps that run in this process, so that a cancel reaches them at once and not with the next heartbeat. */
export interface RunningSteps {
  /** Notes a step under its claim token; call the returned function when it has ended. */
  add(step: { readonly taskId: string; readonly controller: AbortController }): () => void;
  /** Aborts the running steps of a task with the reason as the signal's reason. */
  abort(taskId: string, reason: AbortReason): void;
  abortAll(reason: AbortReason): void;
  /** Aborts the running steps of a task as the channel `cancel` says it: with an id alone it is cancelled. */
  told(payload: string): void;
  readonly size: number;
  /** `<task id>` of each running step, for clean-up of what others left behind */
  taskIds(): ReadonlySet<string>;
}

export function createRunningSteps(): RunningSteps {
  const running = new Set<{ readonly taskId: string; readonly controller: AbortController }>();
  function abort(taskId: string, reason: AbortReason): void {
    for (const step of running) if (step.taskId === taskId) step.controller.abort(reason);
  }
  return {
    add(step) {
      running.add(step);
      return () => void running.delete(step);
    },
    abort,
    told(payload) {
      if (payload.endsWith(givesWaySuffix)) abort(payload.slice(0, -givesWaySuffix.length), 'gives_way');
      else abort(payload, 'cancelled');
    },
    abortAll(reason) {
      for (const step of running) step.controller.abort(reason);
    },
    get size() {
      return running.size;
    },
    taskIds: () => new Set([...running].map((step) => step.taskId)),
  };
}
