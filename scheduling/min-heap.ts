/** A heap of numbers by numbers: what has the smallest rank is on top. Equal ranks come out in any order. */
export class MinHeap {
  readonly #ranks: number[] = [];
  readonly #items: number[] = [];

  get size(): number {
    return this.#items.length;
  }

  /** Infinity when empty */
  get topRank(): number {
    return this.#ranks[0] ?? Infinity;
  }

  /** -1 when empty */
  get top(): number {
    return this.#items[0] ?? -1;
  }

  push(rank: number, item: number): void {
    const ranks = this.#ranks;
    const items = this.#items;
    let at = items.length;
    ranks.push(rank);
    items.push(item);
    while (at > 0) {
      const parent = (at - 1) >> 1;
      const above = ranks[parent] as number;
      if (above <= rank) break;
      ranks[at] = above;
      items[at] = items[parent] as number;
      at = parent;
    }
    ranks[at] = rank;
    items[at] = item;
  }

  /** -1 when empty */
  pop(): number {
    const ranks = this.#ranks;
    const items = this.#items;
    const top = items[0];
    if (top === undefined) return -1;
    const rank = ranks.pop() as number;
    const item = items.pop() as number;
    const size = items.length;
    if (size === 0) return top;
    let at = 0;
    for (;;) {
      let child = 2 * at + 1;
      if (child >= size) break;
      if (child + 1 < size && (ranks[child + 1] as number) < (ranks[child] as number)) child += 1;
      if ((ranks[child] as number) >= rank) break;
      ranks[at] = ranks[child] as number;
      items[at] = items[child] as number;
      at = child;
    }
    ranks[at] = rank;
    items[at] = item;
    return top;
  }
}
