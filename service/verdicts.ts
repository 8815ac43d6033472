/** How long a verdict on credentials is kept, which is how long those that were made void may still work on another process. */
const keptMs = 5_000;
const entriesMax = 1_000;

/** Verdicts on credentials that were presented lately. They are known by a hash, so that the credentials themselves are not kept. */
export interface Verdicts<Verdict> {
  get(hash: Buffer): Verdict | undefined;
  keep(hash: Buffer, verdict: Verdict): void;
  /** Forgets those that this holds for. */
  forget(which: (verdict: Verdict) => boolean): void;
}

export function createVerdicts<Verdict>(): Verdicts<Verdict> {
  const kept = new Map<string, { readonly verdict: Verdict; readonly untilMs: number }>();
  return {
    get(hash) {
      const name = hash.toString('base64');
      const known = kept.get(name);
      if (known !== undefined && known.untilMs > performance.now()) return known.verdict;
      kept.delete(name);
      return undefined;
    },
    keep(hash, verdict) {
      if (kept.size >= entriesMax) kept.delete(kept.keys().next().value ?? '');
      kept.set(hash.toString('base64'), { verdict, untilMs: performance.now() + keptMs });
    },
    forget(which) {
      for (const [name, { verdict }] of kept) if (which(verdict)) kept.delete(name);
    },
  };
}
