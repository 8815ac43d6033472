import type { Logger } from 'pino';

/** A job that is done again and again, never twice at once. */
export interface Repeated {
  /** Does the job soon; calls made while it is done count as one further time. */
  wake(): void;
  /** Ends after the run under way. */
  stop(): Promise<void>;
}

/**
 * Repeats a level-triggered job. A run that fails is logged and repeated after its pause.
 * @param job returns the pause until the next run in milliseconds
 * @param afterFailureMs the pause after a run that failed
 */
export function repeat(name: string, afterFailureMs: number, log: Logger, job: () => Promise<number>): Repeated {
  let stopped = false;
  let woken = false;
  let interrupt: () => void = () => {};

  const ended = (async () => {
    while (!stopped) {
      woken = false;
      let failed = false;
      const pauseMs = await job().catch((error: unknown) => {
        log.warn({ err: error, job: name }, 'a job of the host failed and is repeated');
        failed = true;
        return afterFailureMs;
      });
      // A wake-up must not turn a fault into a busy loop.
      if (stopped || (woken && !failed)) continue;
      await new Promise<void>((resolve) => {
        const timer = setTimeout(resolve, pauseMs);
        interrupt = () => {
          if (failed && !stopped) return;
          clearTimeout(timer);
          resolve();
        };
      });
      interrupt = () => {};
    }
  })();

  return {
    wake() {
      woken = true;
      interrupt();
    },
    async stop() {
      stopped = true;
      interrupt();
      await ended;
    },
  };
}
