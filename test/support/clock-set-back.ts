/** Runs something while the clock of this process is an hour behind, as after a correction of the machine's; durations are measured by another one. */
export async function clockSetBack<T>(run: () => Promise<T>): Promise<T> {
  const now = Date.now;
  Date.now = () => now() - 3_600_000;
  try {
    return await run();
  } finally {
    Date.now = now;
  }
}
