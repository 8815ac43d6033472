import type { Logger } from 'pino';

/** A loop that runs one job again and again, never twice at once. */
export interface Loop {
  /** Runs the job soon; calls made while it runs count as one further run. */
  wake(): void;
  /** Ends the loop after the run under way. */
  stop(): Promise<void>;
}

export interface LoopOptions {
  readonly name: string;
  /** the longest pause between two runs */
  readonly everyMs: number;
  /** How long to wait before the next run although nobody wakes it; undefined: `everyMs`. */
  readonly run: () => Promise<{ readonly againInMs: number } | undefined>;
  readonly log: Logger;
}

/** Starts a level-triggered loop: a run looks at everything, so a lost wake-up costs at most `everyMs`. A failed run is logged and repeated. */
export function startLoop({ name, everyMs, run, log }: LoopOptions): Loop {
  let woken = true;
  let stopped = false;
  let wakeUp: () => void = () => {};
  let failures = 0;

  const ended = (async () => {
    while (!stopped) {
      woken = false;
      let pauseMs = everyMs;
      try {
        pauseMs = (await run())?.againInMs ?? everyMs;
        if (failures > 0) log.info({ loop: name, failures }, 'loop works again');
        failures = 0;
      } catch (error) {
        failures += 1;
        pauseMs = Math.min(5_000, 100 * 2 ** Math.min(failures, 6));
        log[failures === 1 ? 'error' : 'warn']({ err: error, loop: name, failures }, 'loop failed');
        woken = false; // a wake-up must not turn a fault into a busy loop
      }
      if (woken || stopped) continue;
      await new Promise<void>((resolve) => {
        const timer = setTimeout(resolve, pauseMs);
        wakeUp = () => {
          clearTimeout(timer);
          resolve();
        };
      });
      wakeUp = () => {};
    }
  })();

  return {
    wake() {
      woken = true;
      if (failures === 0) wakeUp();
    },
    async stop() {
      stopped = true;
      wakeUp();
      await ended;
    },
  };
}
