/** Lets one change at a time happen. */
export interface OneAtATime {
  /** Runs after all that were asked for before, whatever became of them. */
  run<Result>(change: () => Promise<Result>): Promise<Result>;
  readonly busy: boolean;
}

export function createOneAtATime(): OneAtATime {
  let last: Promise<unknown> = Promise.resolve();
  let waiting = 0;
  return {
    run<Result>(change: () => Promise<Result>): Promise<Result> {
      waiting += 1;
      const result = last.then(change).finally(() => {
        waiting -= 1;
      });
      last = result.catch(() => undefined);
      return result;
    },
    get busy() {
      return waiting > 0;
    },
  };
}
