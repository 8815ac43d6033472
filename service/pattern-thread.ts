import { Worker } from 'node:worker_threads';
import { ProblemError } from '../contract/problems.js';
import { type Match, patternMsMax } from '../templates/parameters.js';

/** Time for all patterns of one request together. */
const requestMsMax = 500;
/** Requests that may wait for the thread; each waits for those before it. */
const waitingMax = 32;

interface Try {
  readonly pattern: string;
  readonly value: string;
}
type Verdict = boolean | null;

/** Tries regular expressions without holding up the process: V8 looks for a match without a pause, and a pattern such as `^(a+)+$` makes it look for ever. */
export interface PatternThread {
  /**
   * Verdicts in the order of `tries`; null for what takes too long, and for all after it.
   * @throws {ProblemError} unavailable when too many requests wait already
   */
  try(tries: readonly Try[]): Promise<readonly Verdict[]>;
}

// As text, since a thread cannot load TypeScript. The new context is for the time limit only: V8 can stop a regular expression there and nowhere else.
const source = `
  const { parentPort } = require('node:worker_threads');
  const { runInNewContext } = require('node:vm');
  parentPort.on('message', ({ tries, eachMs, allMs }) => {
    const endMs = performance.now() + allMs;
    const verdicts = [];
    for (const { pattern, value } of tries) {
      const timeout = Math.floor(Math.min(eachMs, endMs - performance.now()));
      let verdict = null;
      try {
        if (timeout > 0) verdict = runInNewContext('new RegExp(pattern, "u").test(value)', { pattern, value }, { timeout }) === true;
      } catch {}
      verdicts.push(verdict);
      if (verdict === null) break;
    }
    parentPort.postMessage(verdicts);
  });
`;

/** A thread of its own, started when it is first needed; it keeps no process alive. */
export function createPatternThread(): PatternThread {
  const jobs: { readonly tries: readonly Try[]; readonly done: (verdicts: readonly Verdict[]) => void }[] = [];
  let worker: Worker | null = null;
  let busy = false;

  function next(): void {
    const job = jobs[0];
    busy = job !== undefined;
    if (job === undefined) {
      worker?.unref();
      return;
    }
    worker ??= start();
    worker.ref();
    worker.postMessage({ tries: job.tries, eachMs: patternMsMax, allMs: requestMsMax });
  }

  function start(): Worker {
    const started = new Worker(source, { eval: true, resourceLimits: { maxOldGenerationSizeMb: 64 } });
    started.on('message', (verdicts: readonly Verdict[]) => {
      jobs.shift()?.done(verdicts);
      next();
    });
    started.on('error', () => {}); // it ends after this, such as for want of memory
    started.on('exit', () => {
      worker = null;
      jobs.shift()?.done([]); // the pattern it was at has no verdict
      next();
    });
    return started;
  }

  return {
    try(tries) {
      if (jobs.length > waitingMax) throw new ProblemError('unavailable', 'Too many patterns are being tried; try again.');
      return new Promise((done) => {
        jobs.push({ tries, done });
        if (!busy) next();
      });
    },
  };
}

/**
 * Runs a check that tries patterns, and then tries those in a thread.
 * @param check without effect; it is to be run again with `match`
 * @returns what the check said with every pattern taken for a match, and how to run it again; `match` undefined when it tried none
 * @throws {ProblemError} unavailable
 */
export async function matchesFor<T>(thread: PatternThread, check: (noted: Match) => T): Promise<{ readonly first: T; readonly match: Match | undefined }> {
  const tries = new Map<string, Try>();
  const keyOf = (pattern: string, value: string) => JSON.stringify([pattern, value]);
  const first = check((pattern, value) => {
    tries.set(keyOf(pattern, value), { pattern, value });
    return true;
  });
  if (tries.size === 0) return { first, match: undefined };
  const verdicts = await thread.try([...tries.values()]);
  const known = new Map([...tries.keys()].map((key, index) => [key, verdicts[index] ?? null]));
  return { first, match: (pattern, value) => known.get(keyOf(pattern, value)) ?? null };
}
