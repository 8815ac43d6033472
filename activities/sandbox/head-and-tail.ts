const cut = '\n[... output left out ...]\n';

/** Keeps the first and the last bytes of a stream of any length, and counts the rest. */
export class HeadAndTail {
  readonly #headMax: number;
  readonly #tailMax: number;
  readonly #head: Buffer[] = [];
  #headBytes = 0;
  #tail: Buffer[] = [];
  #tailBytes = 0;
  #totalBytes = 0;

  /** @param keepBytes at least 0; half goes to the head, half to the tail */
  constructor(keepBytes: number) {
    this.#headMax = Math.ceil(keepBytes / 2);
    this.#tailMax = Math.floor(keepBytes / 2);
  }

  /** bytes seen in all */
  get totalBytes(): number {
    return this.#totalBytes;
  }

  get truncated(): boolean {
    return this.#totalBytes > this.#headMax + this.#tailMax;
  }

  add(chunk: Buffer): void {
    this.#totalBytes += chunk.length;
    const headRoom = this.#headMax - this.#headBytes;
    if (headRoom > 0) {
      const part = chunk.subarray(0, headRoom);
      // A copy: a small slice would keep the stream's whole buffer alive.
      this.#head.push(Buffer.from(part));
      this.#headBytes += part.length;
    }
    const rest = chunk.subarray(Math.max(0, headRoom));
    if (rest.length === 0 || this.#tailMax === 0) return;
    this.#tail.push(Buffer.from(rest.subarray(-this.#tailMax)));
    this.#tailBytes += Math.min(rest.length, this.#tailMax);
    if (this.#tailBytes > 2 * this.#tailMax) this.#squeezeTail();
  }

  /** What was kept, as text: invalid UTF-8 and NUL (which PostgreSQL's jsonb refuses) are U+FFFD, and a line says where something is left out. */
  text(): string {
    this.#squeezeTail();
    const decode = (parts: readonly Buffer[]): string => new TextDecoder('utf-8').decode(Buffer.concat(parts)).replaceAll('\u0000', '\ufffd');
    return this.truncated ? decode(this.#head) + cut + decode(this.#tail) : decode([...this.#head, ...this.#tail]);
  }

  #squeezeTail(): void {
    const all = Buffer.concat(this.#tail);
    const kept = this.#tailMax === 0 ? Buffer.alloc(0) : all.subarray(-this.#tailMax);
    this.#tail = [kept];
    this.#tailBytes = kept.length;
  }
}
