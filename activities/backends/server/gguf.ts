/**
 * The parts of a GGUF file, as far as generated models have them.
 * @see https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
 */

/** GGUF's numbers for types of values. */
export const valueType = { uint32: 4, int32: 5, float32: 6, bool: 7, string: 8, array: 9 } as const;
const tensorType = { f32: 0, f16: 1 } as const;
const alignment = 32;

export interface Tensor {
  readonly name: string;
  readonly dimensions: readonly number[];
  readonly type: keyof typeof tensorType;
}

export function bytesOf(tensor: Tensor): number {
  return tensor.dimensions.reduce((product, size) => product * size, tensor.type === 'f32' ? 4 : 2);
}

/** What follows so many bytes, so that the next tensor begins where it has to. */
export function paddingAfter(bytes: number): Buffer {
  return Buffer.alloc((alignment - (bytes % alignment)) % alignment);
}

/** All that comes before the first tensor. The tensors follow in this order, each with its {@link paddingAfter}. */
export function ggufHeader(metadata: readonly Buffer[], tensors: readonly Tensor[]): Buffer {
  let offset = 0;
  const infos = tensors.map((tensor) => {
    const info = Buffer.concat([
      string(tensor.name),
      uint32(tensor.dimensions.length),
      ...tensor.dimensions.map(uint64),
      uint32(tensorType[tensor.type]),
      uint64(offset),
    ]);
    offset += Math.ceil(bytesOf(tensor) / alignment) * alignment;
    return info;
  });
  const header = Buffer.concat([Buffer.from('GGUF'), uint32(3), uint64(tensors.length), uint64(metadata.length), ...metadata, ...infos]);
  return Buffer.concat([header, paddingAfter(header.length)]);
}

export function uint32(value: number): Buffer {
  const buffer = Buffer.alloc(4);
  buffer.writeUInt32LE(value);
  return buffer;
}

function uint64(value: number): Buffer {
  const buffer = Buffer.alloc(8);
  buffer.writeBigUInt64LE(BigInt(value));
  return buffer;
}

export function floatBytes(value: number): Buffer {
  const buffer = Buffer.alloc(4);
  buffer.writeFloatLE(value);
  return buffer;
}

export function string(value: string): Buffer {
  const bytes = Buffer.from(value);
  return Buffer.concat([uint64(bytes.length), bytes]);
}

export function text(key: string, value: string): Buffer {
  return Buffer.concat([string(key), uint32(valueType.string), string(value)]);
}

export function number(key: string, value: number): Buffer {
  return Buffer.concat([string(key), uint32(valueType.uint32), uint32(value)]);
}

export function float(key: string, value: number): Buffer {
  return Buffer.concat([string(key), uint32(valueType.float32), floatBytes(value)]);
}

export function array(key: string, type: number, values: readonly Buffer[]): Buffer {
  return Buffer.concat([string(key), uint32(valueType.array), uint32(type), uint64(values.length), ...values]);
}

export function flag(key: string, value: boolean): Buffer {
  return Buffer.concat([string(key), uint32(valueType.bool), Buffer.from([value ? 1 : 0])]);
}
