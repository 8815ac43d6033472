import type { LineActivities } from '../../activities/line-activities.js';
import type { Entered, EnterRequest, Grant, RunIdentity, TaskEnd } from '../../contract/line.js';
import { generalQueue } from '../../contract/queues.js';

/** What a run did with the line, in order. */
export type LineCall = { move: 'enter'; step: string; stepAttempt: number } | { move: 'leave'; step: string; cause: string } | { move: 'close'; end: TaskEnd };

export interface MemoryLine extends LineActivities {
  readonly calls: LineCall[];
  readonly ends: TaskEnd[];
}

/** A line without a database, for tests of the workflow alone: grants every step at once unless `answer` says otherwise. */
export function createMemoryLine(answer: (request: EnterRequest, tryNo: number) => Entered = (request, tryNo) => granted(request, tryNo)): MemoryLine {
  const calls: LineCall[] = [];
  const ends: TaskEnd[] = [];
  const tries = new Map<string, number>();
  return {
    calls,
    ends,
    async enter(request) {
      const tryNo = (tries.get(request.step.id) ?? 0) + 1;
      tries.set(request.step.id, tryNo);
      calls.push({ move: 'enter', step: request.step.id, stepAttempt: request.stepAttempt });
      return answer(request, tryNo);
    },
    async leave(_run: RunIdentity, step: string, cause: string) {
      calls.push({ move: 'leave', step, cause });
    },
    async close(_run: RunIdentity, end: TaskEnd) {
      calls.push({ move: 'close', end });
      ends.push(end);
      return true;
    },
  };
}

export function rowOf(request: EnterRequest, tryNo: number): string {
  return `${request.step.id}-${tryNo}`;
}

export function grantOf(row: string, grantId = `grant of ${row}`): Grant {
  return { row, grantId, queue: generalQueue, pool: 'general', host: 'general', hostEpoch: 0, slot: 1 };
}

export function granted(request: EnterRequest, tryNo: number): Entered {
  const row = rowOf(request, tryNo);
  return { state: 'granted', row, tryNo, exact: 50, grant: grantOf(row) };
}

export function waiting(request: EnterRequest, tryNo: number): Entered {
  return { state: 'waiting', row: rowOf(request, tryNo), tryNo, exact: 50 };
}
