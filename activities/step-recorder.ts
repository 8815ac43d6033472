import type { Logger } from 'pino';
import type { OutputStream, StepEvent } from '../contract/event.js';

export interface StepRecorder {
  /** Tells a piece of output; pieces of one stream that come close together are told as one. Never throws and never waits. */
  output(stream: OutputStream, text: string): void;
  /** Tells how far the step is; of several within a second the last one is told. */
  progress(detail: { readonly phase: string; readonly done?: number; readonly total?: number }): void;
  /** Ends the telling. @returns output that nobody has written yet, for the transaction that ends the step */
  end(): Promise<readonly StepEvent[]>;
}

export interface StepRecorderOptions {
  readonly step: string;
  readonly attempt: number;
  /** Writes events of a running step. @returns false when the step has lost its slot, so that nothing more is told */
  readonly write: (events: readonly StepEvent[]) => Promise<boolean>;
  /** characters of output that are told of one try; the rest is in its result only */
  readonly charsMax: number;
  readonly log: Logger;
}

/** How long pieces are gathered before they are written: a token stream of 50 a second becomes four rows a second. */
const gatherMs = 250;
/** Gathered characters that are written at once. */
const gatherChars = 8_192;
const progressEveryMs = 1_000;

/** Gathers what a running step tells and writes it in batches, apart from the step: what cannot be written is dropped and counted. */
export function createStepRecorder({ step, attempt, write, charsMax, log }: StepRecorderOptions): StepRecorder {
  let pending: StepEvent[] = [];
  let pendingChars = 0;
  let told = 0;
  let dropped = 0;
  let over = false;
  let timer: NodeJS.Timeout | undefined;
  let writing: Promise<void> = Promise.resolve();
  let progressToldMs = performance.now();
  let progress: Extract<StepEvent, { kind: 'progress' }> | undefined;

  function flush(): void {
    clearTimeout(timer);
    timer = undefined;
    const due = progress !== undefined && performance.now() - progressToldMs >= progressEveryMs;
    const events = due && progress !== undefined ? [...pending, progress] : pending;
    if (due) {
      progress = undefined;
      progressToldMs = performance.now();
    }
    if (progress !== undefined) gather(progressEveryMs);
    if (events.length === 0) return;
    pending = [];
    pendingChars = 0;
    writing = writing.then(async () => {
      if (over) return;
      try {
        if (!(await write(events))) over = true;
      } catch (error) {
        dropped += events.length;
        log.warn({ err: error, dropped }, 'what a running step told could not be written');
      }
    });
  }

  function gather(timeMs: number): void {
    timer ??= setTimeout(flush, timeMs);
  }

  return {
    output(stream, text) {
      if (over || text === '' || told > charsMax) return;
      const room = charsMax - told;
      told += text.length;
      const kept = text.length > room ? text.slice(0, room) : text;
      const last = pending.at(-1);
      if (last?.kind === 'output' && last.data.stream === stream)
        pending[pending.length - 1] = { kind: 'output', data: { ...last.data, text: last.data.text + kept } };
      else if (kept !== '') pending.push({ kind: 'output', data: { step, attempt, stream, text: kept } });
      if (told > charsMax) pending.push({ kind: 'output', data: { step, attempt, stream, text: '', truncated: true } });
      pendingChars += kept.length;
      if (pendingChars >= gatherChars) flush();
      else gather(gatherMs);
    },
    progress(detail) {
      if (over) return;
      progress = { kind: 'progress', data: { step, attempt, ...detail } };
      gather(progressEveryMs);
    },
    async end() {
      clearTimeout(timer);
      await writing;
      const left = over ? [] : pending;
      over = true;
      pending = [];
      return left;
    },
  };
}
