/** Runs work of one name once at a time; whoever asks meanwhile shares the result. */
export type SingleFlight = <Result>(name: string, signal: AbortSignal, work: (signal: AbortSignal) => Promise<Result>) => Promise<Result>;

/** The shared work is aborted only when everybody who waits for it has given up. */
export function createSingleFlight(): SingleFlight {
  const flights = new Map<string, { readonly result: Promise<unknown>; readonly controller: AbortController; waiting: number }>();

  return async <Result>(name: string, signal: AbortSignal, work: (signal: AbortSignal) => Promise<Result>): Promise<Result> => {
    signal.throwIfAborted();
    let flight = flights.get(name);
    if (!flight || flight.controller.signal.aborted) {
      const controller = new AbortController();
      const result = work(controller.signal).finally(() => {
        if (flights.get(name)?.controller === controller) flights.delete(name);
      });
      flight = { result, controller, waiting: 0 };
      flights.set(name, flight);
    }
    const joined = flight;
    joined.waiting += 1;
    let leave: () => void = () => {};
    const gone = new Promise<never>((_, reject) => {
      leave = () => {
        joined.waiting -= 1;
        if (joined.waiting === 0) joined.controller.abort(signal.reason);
        reject(signal.reason as Error);
      };
      signal.addEventListener('abort', leave, { once: true });
    });
    try {
      return (await Promise.race([joined.result, gone])) as Result;
    } finally {
      signal.removeEventListener('abort', leave);
    }
  };
}
