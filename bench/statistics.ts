/** The value below which a share of the samples lies, by the nearest-rank method; NaN of none. */
export function quantile(samples: readonly number[], share: number): number {
  const sorted = [...samples].sort((left, right) => left - right);
  return sorted[Math.min(sorted.length - 1, Math.max(0, Math.ceil(share * sorted.length) - 1))] ?? Number.NaN;
}

export function median(samples: readonly number[]): number {
  return quantile(samples, 0.5);
}

/** Runs `count` jobs, at most `atOnce` at a time, and returns what each took in milliseconds, in the order of their ends. */
export async function timeMany(count: number, atOnce: number, job: (index: number) => Promise<unknown>): Promise<number[]> {
  const took: number[] = [];
  let next = 0;
  const lane = async () => {
    for (let index = next++; index < count; index = next++) {
      const startedMs = performance.now();
      await job(index);
      took.push(performance.now() - startedMs);
    }
  };
  await Promise.all(Array.from({ length: Math.min(count, atOnce) }, lane));
  return took;
}

/** 12.3 -> "12.3 ms", 1234 -> "1.23 s". */
export function inUnits(ms: number): string {
  return ms >= 1_000 ? `${(ms / 1_000).toFixed(2)} s` : `${ms.toFixed(ms < 10 ? 2 : 1)} ms`;
}
