/** An exact priority: an integer from 0 to 100, larger is more urgent. A level: 1 to 10, larger is more urgent. */
export const exactMax = 100;
export const levelMax = 10;
export const defaultLevel = 5;

/** The exact value that a level stands for: ten times the level. */
export function exactOfLevel(level: number): number {
  return level * 10;
}

/** The level of an exact value: 0-10 is 1, 11-20 is 2, 91-100 is 10. */
export function levelOfExact(exact: number): number {
  return Math.max(1, Math.ceil(exact / 10));
}

/**
 * Temporal's priority key for an exact value; 1 is most urgent there.
 * @param levels the server's `matching.priorityLevels`: 60 on our own server, 5 on a foreign one
 */
export function temporalPriorityKey(exact: number, levels: number): number {
  return 1 + Math.round(((exactMax - exact) * (levels - 1)) / exactMax);
}
