/** Work that can be left off between its slices: each `next` does one, which takes about a millisecond. */
export type Slices<T> = Generator<undefined, T, undefined>;

/** Does all slices one after the other. */
export function allAtOnce<T>(slices: Slices<T>): T {
  for (;;) {
    const { done, value } = slices.next();
    if (done === true) return value;
  }
}
