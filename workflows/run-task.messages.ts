import { defineQuery, defineSignal } from '@temporalio/workflow';
import type { FirstGrant, Grant, Refusal } from '../contract/line.js';
import type { Plan } from '../contract/plan.js';
import type { StepState } from '../scheduling/plan-progress.js';

/** Name under which the workflow is started; equal to the exported function. */
export const runTaskType = 'runTask';

/** Input of `runTask`: frozen at submission, so that no later edit reaches a task that was submitted. */
export interface TaskStart {
  readonly taskId: string;
  readonly attempt: number;
  readonly plan: Plan;
  /** 0 to 100, larger first; signals may change it */
  readonly exact: number;
  /** the server's `matching.priorityLevels` */
  readonly priorityLevels: number;
  /** what the submit has granted already; left out: the run enters the line for every step */
  readonly first?: FirstGrant;
  /** A step that runs ends as soon as its run hears that its slot was lost. Left out in runs that were started before that was there: they wait for its heartbeat. */
  readonly hearsLost?: true;
}

/** What a query for progress answers. */
export interface TaskProgress {
  readonly attempt: number;
  readonly steps: readonly { readonly id: string; readonly type: string; readonly state: StepState }[];
}

/** A place in the line was granted; ignored unless it is for the row that a step waits on. */
export const grantSignal = defineSignal<[grant: Grant]>('grant');
/** The row that a step waits on cannot be served. */
export const refusedSignal = defineSignal<[refusal: Refusal]>('refused');
/** The process that ran a step is gone, and the row of the line with it; its slot is somebody else's. */
export const lostSignal = defineSignal<[row: string]>('lost');
/** The exact priority (0-100, larger first) of every step not yet granted. */
export const prioritySignal = defineSignal<[exact: number]>('priority');
/** How far each step is. Reads, never writes. */
export const progressQuery = defineQuery<TaskProgress>('progress');
