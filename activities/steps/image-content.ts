import { isWholePng } from './check-png.js';

/** What the first bytes of an image say about it. */
export interface ImageHeader {
  readonly kind: 'PNG' | 'JPEG' | 'WebP';
  readonly width: number;
  readonly height: number;
}

/** Reads kind and size from the content, whatever a file is called; undefined when it is no PNG, JPEG or WebP. Decodes nothing. */
export function imageHeader(bytes: Buffer): ImageHeader | undefined {
  try {
    return png(bytes) ?? jpeg(bytes) ?? webp(bytes);
  } catch (error) {
    if (error instanceof RangeError) return undefined; // it ends before its size is told
    throw error;
  }
}

/**
 * Whether the whole image is there, as far as that can be told without decoding it. One that a model server cannot decode may end
 * the process that holds the model (seen with Ollama 0.24 and a model with a projector).
 */
export async function isWhole(bytes: Buffer, { kind, width, height }: ImageHeader): Promise<boolean> {
  if (width === 0 || height === 0) return false;
  switch (kind) {
    case 'PNG':
      return isWholePng(bytes);
    case 'JPEG':
      return isWholeJpeg(bytes);
    case 'WebP':
      return bytes.readUInt32LE(4) + 8 <= bytes.length;
  }
}

/** Baseline or progressive, 8 bits, 1 or 3 channels, with the beginning of its pixels and its end. */
function isWholeJpeg(bytes: Buffer): boolean {
  let frames = 0;
  for (let at = 2; at + 4 <= bytes.length && bytes[at] === 0xff; ) {
    const marker = bytes[at + 1] ?? 0;
    if (marker === 0xff) at += 1;
    else if (marker === 0xda) return frames === 1 && bytes.lastIndexOf(Buffer.from([0xff, 0xd9])) > at;
    else {
      const frame = marker >= 0xc0 && marker <= 0xcf && ![0xc4, 0xc8, 0xcc].includes(marker);
      if (frame && (marker > 0xc2 || bytes[at + 4] !== 8 || ![1, 3].includes(bytes[at + 9] ?? 0))) return false;
      if (frame) frames += 1;
      at += 2 + bytes.readUInt16BE(at + 2);
    }
  }
  return false;
}

function png(bytes: Buffer): ImageHeader | undefined {
  if (!startsWith(bytes, '89504e470d0a1a0a') || bytes.toString('latin1', 12, 16) !== 'IHDR') return undefined;
  return { kind: 'PNG', width: bytes.readUInt32BE(16), height: bytes.readUInt32BE(20) };
}

/** The size stands in the first frame header (SOF), after segments of any length. */
function jpeg(bytes: Buffer): ImageHeader | undefined {
  if (!startsWith(bytes, 'ffd8ff')) return undefined;
  for (let at = 2; bytes[at] === 0xff; ) {
    const marker = bytes.readUInt8(at + 1);
    const frame = marker >= 0xc0 && marker <= 0xcf && ![0xc4, 0xc8, 0xcc].includes(marker);
    if (frame) return { kind: 'JPEG', width: bytes.readUInt16BE(at + 7), height: bytes.readUInt16BE(at + 5) };
    // A filling byte stands alone.
    at += marker === 0xff ? 1 : 2 + bytes.readUInt16BE(at + 2);
  }
  return undefined;
}

function webp(bytes: Buffer): ImageHeader | undefined {
  if (bytes.toString('latin1', 0, 4) !== 'RIFF' || bytes.toString('latin1', 8, 12) !== 'WEBP') return undefined;
  switch (bytes.toString('latin1', 12, 16)) {
    case 'VP8 ':
      return { kind: 'WebP', width: bytes.readUInt16LE(26) & 0x3fff, height: bytes.readUInt16LE(28) & 0x3fff };
    case 'VP8L': {
      const bits = bytes.readUInt32LE(21);
      return { kind: 'WebP', width: (bits & 0x3fff) + 1, height: ((bits >>> 14) & 0x3fff) + 1 };
    }
    case 'VP8X':
      return { kind: 'WebP', width: bytes.readUIntLE(24, 3) + 1, height: bytes.readUIntLE(27, 3) + 1 };
    default:
      return undefined;
  }
}

function startsWith(bytes: Buffer, hex: string): boolean {
  return bytes.subarray(0, hex.length / 2).toString('hex') === hex;
}
