import { promisify } from 'node:util';
import { inflate } from 'node:zlib';

const inflated = promisify(inflate);

/** Channels of each colour type, and the depths that it may have. */
const colourTypes: Readonly<Record<number, { channels: number; depths: readonly number[] }>> = {
  0: { channels: 1, depths: [1, 2, 4, 8, 16] },
  2: { channels: 3, depths: [8, 16] },
  3: { channels: 1, depths: [1, 2, 4, 8] },
  4: { channels: 2, depths: [8, 16] },
  6: { channels: 4, depths: [8, 16] },
};
/** First column and row, and the steps between them, of each pass of an interlaced image. */
const passes = [
  [0, 0, 8, 8],
  [4, 0, 8, 8],
  [0, 4, 4, 8],
  [2, 0, 4, 4],
  [0, 2, 2, 4],
  [1, 0, 2, 2],
  [0, 1, 1, 2],
] as const; // prettier-ignore

/**
 * Whether a decoder will find all that a PNG has to have, its pixels included: a file that is cut off or damaged is not refused by every model server.
 * @param bytes begins with the signature and a header whose width and height are bounded already
 * @see https://www.w3.org/TR/png-3/
 */
export async function isWholePng(bytes: Buffer): Promise<boolean> {
  const chunks = chunksOf(bytes);
  const header = chunks?.[0]?.data;
  if (chunks === null || header === undefined || header.length !== 13) return false;
  const [depth, colour, compression, filter, interlace] = [...header.subarray(8)] as [number, number, number, number, number];
  const type = colourTypes[colour];
  if (!type?.depths.includes(depth) || compression !== 0 || filter !== 0 || interlace > 1) return false;
  const palette = chunks.find(({ name }) => name === 'PLTE')?.data.length ?? 0;
  if (palette > 768 || palette % 3 !== 0 || (colour === 3 && palette === 0)) return false;
  const transparent = chunks.find(({ name }) => name === 'tRNS')?.data.length;
  if (transparent !== undefined && transparent !== (colour === 0 ? 2 : colour === 2 ? 6 : transparent)) return false;
  if (transparent !== undefined && (colour > 3 || (colour === 3 && transparent > palette / 3))) return false;
  const rows = rowsOf(header.readUInt32BE(0), header.readUInt32BE(4), depth * type.channels, interlace === 1);
  const expected = rows.reduce((sum, { rowBytes, count }) => sum + rowBytes * count, 0);
  const pixels = await inflated(Buffer.concat(chunks.filter(({ name }) => name === 'IDAT').map(({ data }) => data)), { maxOutputLength: expected + 1 }).catch(
    () => null,
  );
  if (pixels === null || pixels.length !== expected) return false;
  let at = 0;
  for (const { rowBytes, count } of rows) for (let row = 0; row < count; row += 1, at += rowBytes) if ((pixels[at] ?? 5) > 4) return false;
  return true;
}

interface Chunk {
  readonly name: string;
  readonly data: Buffer;
}

/** Null unless all chunks are there, up to the last, and none is one that a decoder has to know and does not. */
function chunksOf(bytes: Buffer): readonly Chunk[] | null {
  const chunks: Chunk[] = [];
  for (let at = 8; at + 12 <= bytes.length; ) {
    const length = bytes.readUInt32BE(at);
    const name = bytes.toString('latin1', at + 4, at + 8);
    if (at + 12 + length > bytes.length) return null;
    if (/^[A-Z]/.test(name) && !['IHDR', 'PLTE', 'IDAT', 'IEND'].includes(name)) return null;
    if (name === 'IEND') return chunks;
    if (name === 'PLTE' && chunks.some((chunk) => chunk.name === 'IDAT')) return null;
    if (name === 'tRNS' && chunks.some((chunk) => chunk.name === 'IDAT')) return null;
    if ((name === 'IHDR') !== (chunks.length === 0)) return null;
    chunks.push({ name, data: bytes.subarray(at + 8, at + 8 + length) });
    at += 12 + length;
  }
  return null;
}

/** Rows as they are stored: one byte that names their filter, then their pixels. */
function rowsOf(width: number, height: number, bitsPerPixel: number, interlaced: boolean): { rowBytes: number; count: number }[] {
  const rows = (columns: number, count: number) => ({ rowBytes: 1 + Math.ceil((columns * bitsPerPixel) / 8), count });
  if (!interlaced) return [rows(width, height)];
  return passes.flatMap(([left, top, right, down]) => {
    const [columns, count] = [Math.ceil((width - left) / right), Math.ceil((height - top) / down)];
    return columns > 0 && count > 0 ? [rows(columns, count)] : [];
  });
}
