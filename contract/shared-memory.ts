/** A model in a server's memory, as the API tells it. */
interface Sharer {
  readonly host: string;
  readonly name: string;
  readonly shares_memory_with: readonly string[];
}

/** What takes memory: of names that are answered from the same memory of a host only the first. */
export function eachOnce<T extends Sharer>(loaded: readonly T[]): T[] {
  return loaded.filter(
    ({ host, shares_memory_with: others }, index) => !loaded.slice(0, index).some((before) => before.host === host && others.includes(before.name)),
  );
}
