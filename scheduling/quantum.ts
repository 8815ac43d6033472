/** Shortest and longest time of service that a load buys. */
export const quantumMinMs = 2_000;
export const quantumMaxMs = 600_000;

/** Service for each unit of load time when the others are at most as urgent, one or two levels more, and three levels or more. A model that serves q times
 * its load time loses 1/(1 + q) of its time to loading: 5 %, 10 %, 20 %. The longest quantum leaves this so for loads of up to half a minute. */
const loadsOfService = { equal: 19, above: 9, farAbove: 4 } as const;

/**
 * How much service a loaded model may give before its slot goes to a waiting step of another model, counted since its load.
 * @param loadMs what loading this model costs
 * Levels are those asked for: waiting gives a step its turn, but were it to shorten quanta too, a long line would be served with many small ones.
 * @param own level of the first step that waits for this model; null: none waits, and it gives way at once
 * @param other level of the first step that waits for the other model
 * @returns milliseconds; 0: at once
 */
export function quantumMs(loadMs: number, own: number | null, other: number): number {
  if (own === null) return 0;
  const [ownUrgent, otherUrgent] = [own >= 9, other >= 9];
  if (otherUrgent && !ownUrgent) return 0;
  const gap = other - own;
  const loads = otherUrgent || gap >= 3 ? loadsOfService.farAbove : gap >= 1 ? loadsOfService.above : loadsOfService.equal;
  return Math.min(quantumMaxMs, Math.max(quantumMinMs, loads * loadMs));
}
