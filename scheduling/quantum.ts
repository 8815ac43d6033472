/** Shortest and longest time of service that a load buys. */
export const quantumMinMs = 2_000;
export const quantumMaxMs = 120_000;

/** Service for each unit of load time when the others are at most as urgent, one or two levels more, and three levels or more. A model that serves q times
 * its load time loses 1/(1 + q) of its time to loading: 5 %, 10 %, 20 %. */
const loadsOfService = { equal: 19, above: 9, farAbove: 4 } as const;

/**
 * How much service a loaded model may give before its slot goes to a waiting step of another model, counted since its load.
 * @param loadMs what loading this model costs
 * @param own effective level of the first step that waits for this model; null: none waits, and it gives way at once
 * @param other effective level of the first step that waits for the other model
 * @returns milliseconds; 0: at once, Infinity: never while such work waits
 */
export function quantumMs(loadMs: number, own: number | null, other: number): number {
  if (own === null) return 0;
  const [ownUrgent, otherUrgent] = [own >= 9, other >= 9];
  if (otherUrgent && !ownUrgent) return 0;
  if (ownUrgent && !otherUrgent) return Infinity;
  const gap = other - own;
  const loads = otherUrgent || gap >= 3 ? loadsOfService.farAbove : gap >= 1 ? loadsOfService.above : loadsOfService.equal;
  return Math.min(quantumMaxMs, Math.max(quantumMinMs, loads * loadMs));
}
