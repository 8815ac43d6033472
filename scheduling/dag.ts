/** A wait: `child` starts after `parent` has ended. */
export interface DagEdge {
  readonly parent: string;
  readonly child: string;
}

/**
 * Looks for tasks or steps that would wait for each other.
 * @returns the nodes of one cycle in the order in which they wait, the first one repeated at the end (`['a', 'b', 'a']`: a waits for b, b for a);
 *   null when there is none. Takes time linear in nodes and edges, and no recursion, so that a chain of 100,000 is no danger.
 */
export function findCycle(edges: Iterable<DagEdge>): string[] | null {
  const parents = new Map<string, string[]>();
  for (const { parent, child } of edges) {
    const known = parents.get(child);
    if (known === undefined) parents.set(child, [parent]);
    else known.push(parent);
  }
  const finished = new Set<string>();
  for (const start of parents.keys()) {
    const cycle = finished.has(start) ? null : cycleFrom(start, parents, finished);
    if (cycle !== null) return cycle;
  }
  return null;
}

/** Walks depth first from `start`; `finished` collects the nodes from which no cycle is reached. */
function cycleFrom(start: string, parents: ReadonlyMap<string, readonly string[]>, finished: Set<string>): string[] | null {
  const path: string[] = [start];
  const placeInPath = new Map([[start, 0]]);
  const nextParent = [0];
  while (path.length > 0) {
    const depth = path.length - 1;
    const node = path[depth] as string;
    const index = nextParent[depth] as number;
    const parent = parents.get(node)?.[index];
    if (parent === undefined) {
      finished.add(node);
      placeInPath.delete(node);
      path.pop();
      nextParent.pop();
      continue;
    }
    nextParent[depth] = index + 1;
    const place = placeInPath.get(parent);
    if (place !== undefined) return [...path.slice(place), parent];
    if (finished.has(parent)) continue;
    placeInPath.set(parent, path.length);
    path.push(parent);
    nextParent.push(0);
  }
  return null;
}
