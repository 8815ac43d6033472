import type { ForecastEntry } from '../contract/forecast.js';
import { ProblemError } from '../contract/problems.js';
import type { QueueMovePreviewView } from '../contract/schemas/queue.js';
import { answered } from '../db/connect.js';
import { readLearned } from '../db/durations.js';
import { type ForecastRow, readDoneSteps, readForecastInput, readPlanOutlines, readStanding, type RowStanding } from '../db/forecasts.js';
import { handoverMs, type LineReading, lineStateOf, ofSeveralSteps, stretchesOf, tasksIn } from '../db/line-state.js';
import { moveTask, type MoveOutcome } from '../db/moves.js';
import { readQueuedTasks } from '../db/queue.js';
import { inSlices } from '../in-slices.js';
import { forecastInSlices } from '../scheduling/forecast.js';
import { defaultMaxWaitsMs } from '../scheduling/waiting-order.js';
import { type Caller, ownerOf } from './caller.js';
import type { ServiceDeps } from './deps.js';
import { acceptedMove, type MoveRequest, placeOfMove } from './move-task.js';

/** Starts that differ by less are the same to a person. */
const noticedMs = 1_000;
/** Steps that are listed at most, those that change most. */
const shownMax = 200;

/** Ends a transaction without a trace. */
class NothingHappened extends Error {
  override readonly name = 'NothingHappened';
}

/**
 * What a move would do to the predicted starts of everything that waits: the line is read, the move is made and taken back, all in one transaction, so that the
 * preview obeys the same rules as the move. One at a time in each process, since each forecasts the whole line twice; of those of one caller that
 * wait only the latest is made, since whoever drags on needs no other.
 * @throws {ProblemError} as the move itself, and superseded
 */
export function previewMoveUseCase({ sql }: ServiceDeps) {
  let last: Promise<unknown> = Promise.resolve();
  /** what each caller asked for last and is not begun, by user */
  const waiting = new Map<string, MoveRequest>();

  async function preview(caller: Caller, request: MoveRequest): Promise<QueueMovePreviewView> {
    const { id, side, neighbour } = placeOfMove(request);
    const owner = ownerOf(caller);
    const madeAtMs = Date.now();
    let reading: { readonly before: LineReading; readonly after: LineReading } | undefined;
    let outcome: MoveOutcome | undefined;
    const learned = await readLearned(sql);
    await answered(
      sql.begin(async (tx) => {
        const input = await readForecastInput(tx);
        const ids = tasksIn(input);
        const outlines = new Map((await readPlanOutlines(tx, [...ids])).map((outline) => [outline.id, outline]));
        const done = await readDoneSteps(tx, ofSeveralSteps(ids, outlines));
        // From here on others wait for this transaction, so that it only asks where the task stands now.
        outcome = await moveTask(tx, id, owner, { side, neighbour, version: request.version ?? null });
        if (outcome.outcome === 'changed') {
          const rows = movedRows(input.rows, await readStanding(tx, id), { id, side, neighbour });
          reading = { before: { input, outlines, done, learned }, after: { input: { ...input, rows }, outlines, done, learned } };
        }
        throw new NothingHappened();
      }),
    ).catch((error: unknown) => {
      if (!(error instanceof NothingHappened)) throw error;
    });
    if (outcome !== undefined) acceptedMove(outcome);
    if (reading === undefined) return { later: 0, sooner: 0, items: [] };
    const [before, after] = [await startsOf(reading.before), await startsOf(reading.after)];
    const changes = changesOf(before, after);
    const shown = changes.slice(0, shownMax);
    const tasks = await readQueuedTasks(sql, [...new Set(shown.map(({ taskId }) => taskId))]);
    const at = (ms: number) => new Date(madeAtMs + Math.max(0, ms)).toISOString();
    return {
      later: changes.filter(({ beforeMs, afterMs }) => afterMs > beforeMs).length,
      sooner: changes.filter(({ beforeMs, afterMs }) => afterMs < beforeMs).length,
      items: shown.flatMap(({ taskId, step, beforeMs, afterMs }) => {
        const task = tasks.get(taskId);
        if (task === undefined || (owner !== null && task.userId !== owner)) return [];
        return [{ task_id: taskId, name: task.name, step, start_before: at(beforeMs), start_after: at(afterMs) }];
      }),
    };
  }

  return async (caller: Caller, request: MoveRequest): Promise<QueueMovePreviewView> => {
    waiting.set(caller.userId, request);
    const next = last.then(() => {
      if (waiting.get(caller.userId) !== request) throw new ProblemError('superseded', 'You have asked what another move would do since.');
      waiting.delete(caller.userId);
      return preview(caller, request);
    });
    last = next.catch(() => {});
    return next;
  };
}

/**
 * The line after a move, as far as it is read: the waiting rows of the task stand where it was placed.
 * @param standing of the task's waiting rows, after the move
 */
export function movedRows(
  rows: readonly ForecastRow[],
  standing: readonly RowStanding[],
  { id, side, neighbour }: { readonly id: string; readonly side: 'before' | 'after'; readonly neighbour: string },
): ForecastRow[] {
  const places = rows.filter((row) => row.id === neighbour).map(({ place }) => place);
  // A neighbour none of whose steps has entered stands behind all that have.
  const beside = places.length === 0 ? rows.length + 0.5 : side === 'before' ? Math.min(...places) - 0.5 : Math.max(...places) + 0.5;
  const byStep = new Map(standing.map((row) => [row.step, row]));
  return rows.map((row) => {
    const now = row.id === id && row.state === 'waiting' ? byStep.get(row.step) : undefined;
    return now === undefined ? row : { ...row, level: now.level, exact: now.exact, waitedMs: now.waitedMs, place: beside };
  });
}

/** Predicted starts by task and step, in milliseconds from when it was read; what cannot be told is left out. */
async function startsOf(reading: LineReading): Promise<Map<string, Pick<ForecastEntry, 'task_id' | 'step'> & { readonly startMs: number }>> {
  const state = await inSlices(lineStateOf(reading));
  const { entries } = await inSlices(forecastInSlices(state, { maxWaitsMs: defaultMaxWaitsMs, handoverMs, stretch: stretchesOf(reading.learned) }));
  return new Map(
    entries.flatMap(({ task_id, step, position, start_ms: startMs }) =>
      position === null || startMs === null ? [] : [[`${task_id} ${step}`, { task_id, step, startMs }] as const],
    ),
  );
}

interface Change {
  readonly taskId: string;
  readonly step: string;
  readonly beforeMs: number;
  readonly afterMs: number;
}

/** Steps whose start a person would notice to be another one, those that change most first. */
function changesOf(before: Awaited<ReturnType<typeof startsOf>>, after: Awaited<ReturnType<typeof startsOf>>): Change[] {
  return [...after]
    .flatMap(([id, { task_id: taskId, step, startMs: afterMs }]) => {
      const beforeMs = before.get(id)?.startMs;
      return beforeMs === undefined || Math.abs(afterMs - beforeMs) < noticedMs ? [] : [{ taskId, step, beforeMs, afterMs }];
    })
    .sort((a, b) => Math.abs(b.afterMs - b.beforeMs) - Math.abs(a.afterMs - a.beforeMs));
}
