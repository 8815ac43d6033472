import { createHash } from 'node:crypto';
import { Readable } from 'node:stream';
import { Ollama } from 'ollama';
import { fetch } from 'undici';
import { array, bytesOf, float, floatBytes, ggufHeader, number, paddingAfter, string, type Tensor, text, uint32, valueType } from './gguf.js';
import { parseOllamaAddress } from './ollama-address.js';

/**
 * The size of a generated model: llama architecture, F16, {@link tinyVocabulary} tokens, random weights. It answers nonsense, but it is a real model
 * to the server: it loads, streams, counts tokens, fills its context and obeys a JSON schema. A test toy, also for a first try without a network.
 */
export interface TinyModelShape {
  /** length of an embedding; a multiple of 64 */
  readonly width: number;
  readonly blocks: number;
  /** width of the feed-forward layers */
  readonly feedForward: number;
  /** tokens the model says it was trained for */
  readonly contextLength: number;
  /** true: with temperature 0 it never ends an answer by itself */
  readonly endless: boolean;
  /** true: the model says that it gives vectors and no text; absent: it gives both */
  readonly embedsOnly?: boolean;
  /** equal seeds give equal bytes */
  readonly seed: number;
}

/** About 254 KB; answers in some 30 ms. */
export const tinyShape: TinyModelShape = { width: 64, blocks: 2, feedForward: 128, contextLength: 32_768, endless: false, seed: 1 };

/** About 412 MB; loads in about half a second, which makes switches between models measurable. */
export const slowToLoadShape: TinyModelShape = { ...tinyShape, width: 1024, blocks: 16, feedForward: 2816 };

const control = ['<unk>', '<s>', '</s>'];
const letters = ['\u2581', ...Array.from('abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ')];
const vocabulary = [...control, ...Array.from({ length: 256 }, (_, byte) => `<0x${byte.toString(16).toUpperCase().padStart(2, '0')}>`), ...letters];
export const tinyVocabulary = vocabulary.length;

const headWidth = 16;
/** GGUF's numbers for types of tokens. */
const tokenType = { normal: 1, unknown: 2, control: 3, byte: 6 } as const;

/** The model file in pieces of at most 1 MiB, so that a large one never has to be in memory. */
export function* tinyModelChunks(shape: TinyModelShape): Generator<Buffer> {
  const tensors = tensorsOf(shape);
  yield headerOf(shape, tensors);
  const random = randomNumbers(shape.seed);
  const weights = randomHalves(random);
  for (const tensor of tensors) {
    const bytes = bytesOf(tensor);
    if (tensor.type === 'f32') {
      const ones = Buffer.alloc(bytes);
      for (let at = 0; at < bytes; at += 4) ones.writeFloatLE(1, at);
      yield ones;
    } else {
      const zeroBytes = zeroRows(shape, tensor.name) * shape.width * 2;
      if (zeroBytes > 0) yield Buffer.alloc(zeroBytes);
      const rest = slices(weights, random, bytes - zeroBytes);
      if (shape.endless) yield* rest;
      else yield* withEnd(tensor.name, shape.width, rest);
    }
    yield paddingAfter(bytes);
  }
}

const endToken = 2;
/** 1 and the weight of the end token for it, as F16; found by measuring: an answer of {@link tinyShape} has some 40 tokens at Ollama's own temperature. */
const constantF16 = 0x3c00;
const endWeightF16 = 0x3880;

/** Leading rows of a tensor that are zero: those of the control tokens when they shall never come, or those that write to the constant. */
function zeroRows({ endless }: TinyModelShape, name: string): number {
  if (endless) return name === 'output.weight' ? control.length : 0;
  return /attn_output|ffn_down/.test(name) ? 1 : 0;
}

/**
 * Lets answers end: the first number of every embedding is the same, no block changes it, and the end token alone is made likely by it.
 * With random weights alone most answers would fill the context.
 */
function* withEnd(name: string, width: number, chunks: Iterable<Buffer>): Generator<Buffer> {
  if (name !== 'token_embd.weight' && name !== 'output.weight') return yield* chunks;
  const rows = Buffer.concat([...chunks]);
  for (let token = 0; token < tinyVocabulary; token += 1) rows.writeUInt16LE(name === 'output.weight' ? 0 : constantF16, token * width * 2);
  if (name === 'output.weight') {
    rows.fill(0, endToken * width * 2, (endToken + 1) * width * 2);
    rows.writeUInt16LE(endWeightF16, endToken * width * 2);
  }
  yield rows;
}

export function tinyModelBytes(shape: TinyModelShape): Buffer {
  return Buffer.concat([...tinyModelChunks(shape)]);
}

/**
 * Creates a generated model on an Ollama, or leaves it as it is when its file is there already.
 * @param address `OLLAMA_HOST` in any form
 * @param name such as `tiny:latest`
 * @throws {Error} when the server refuses
 */
export async function createTinyModel(address: string, name: string, shape: TinyModelShape = tinyShape, signal?: AbortSignal): Promise<void> {
  const { url, authorization } = parseOllamaAddress(address);
  const headers = authorization === undefined ? {} : { authorization };
  const hash = createHash('sha256');
  for (const chunk of tinyModelChunks(shape)) hash.update(chunk);
  const digest = `sha256:${hash.digest('hex')}`;
  const abort = signal === undefined ? {} : { signal };
  const known = await fetch(`${url}/api/blobs/${digest}`, { method: 'HEAD', headers, ...abort });
  if (known.status !== 200) {
    const stored = await fetch(`${url}/api/blobs/${digest}`, {
      method: 'POST',
      headers,
      body: Readable.from(tinyModelChunks(shape)),
      duplex: 'half',
      ...abort,
    });
    if (!stored.ok) throw new Error(`Ollama refused the generated model's file: ${await stored.text()}`);
  }
  const client = new Ollama({ host: url, headers });
  const template = '{{ if .System }}{{ .System }}\n{{ end }}{{ .Prompt }}';
  const stream = await client.create({ model: name, files: { 'model.gguf': digest }, template, stream: true } as Parameters<typeof client.create>[0] & {
    stream: true;
  });
  for await (const _line of stream) signal?.throwIfAborted();
}

function tensorsOf({ width, blocks, feedForward }: TinyModelShape): Tensor[] {
  const square = [width, width];
  const block = (index: number): Tensor[] => [
    { name: `blk.${index}.attn_norm.weight`, dimensions: [width], type: 'f32' },
    ...['attn_q', 'attn_k', 'attn_v', 'attn_output'].map((part): Tensor => ({ name: `blk.${index}.${part}.weight`, dimensions: square, type: 'f16' })),
    { name: `blk.${index}.ffn_norm.weight`, dimensions: [width], type: 'f32' },
    { name: `blk.${index}.ffn_gate.weight`, dimensions: [width, feedForward], type: 'f16' },
    { name: `blk.${index}.ffn_up.weight`, dimensions: [width, feedForward], type: 'f16' },
    { name: `blk.${index}.ffn_down.weight`, dimensions: [feedForward, width], type: 'f16' },
  ];
  return [
    { name: 'token_embd.weight', dimensions: [width, tinyVocabulary], type: 'f16' },
    ...Array.from({ length: blocks }, (_, index) => block(index)).flat(),
    { name: 'output_norm.weight', dimensions: [width], type: 'f32' },
    { name: 'output.weight', dimensions: [width, tinyVocabulary], type: 'f16' },
  ];
}

function headerOf(shape: TinyModelShape, tensors: readonly Tensor[]): Buffer {
  const heads = shape.width / headWidth;
  const types = vocabulary.map((_, index) =>
    index === 0 ? tokenType.unknown : index < control.length ? tokenType.control : index < control.length + 256 ? tokenType.byte : tokenType.normal,
  );
  const metadata = [
    text('general.architecture', 'llama'),
    text('general.name', `generated ${shape.width}x${shape.blocks} seed ${shape.seed}`),
    number('general.file_type', 1),
    number('llama.context_length', shape.contextLength),
    number('llama.embedding_length', shape.width),
    number('llama.block_count', shape.blocks),
    number('llama.feed_forward_length', shape.feedForward),
    number('llama.attention.head_count', heads),
    number('llama.attention.head_count_kv', heads),
    float('llama.attention.layer_norm_rms_epsilon', 1e-5),
    number('llama.rope.dimension_count', headWidth),
    number('llama.vocab_size', tinyVocabulary),
    // the mean of the vectors of all tokens
    ...(shape.embedsOnly ? [number('llama.pooling_type', 1)] : []),
    text('tokenizer.ggml.model', 'llama'),
    array('tokenizer.ggml.tokens', valueType.string, vocabulary.map(string)),
    array(
      'tokenizer.ggml.scores',
      valueType.float32,
      vocabulary.map((_, index) => floatBytes(index < control.length + 256 ? 0 : -index)),
    ),
    array('tokenizer.ggml.token_type', valueType.int32, types.map(uint32)),
    number('tokenizer.ggml.bos_token_id', 1),
    number('tokenizer.ggml.eos_token_id', 2),
    number('tokenizer.ggml.unknown_token_id', 0),
  ];
  return ggufHeader(metadata, tensors);
}

/** Mulberry32: numbers from 0 to 2^32 - 1, the same for the same seed on every machine. */
function randomNumbers(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return (mixed ^ (mixed >>> 14)) >>> 0;
  };
}

const poolBytes = 1 << 20;

/** 1 MiB of F16 numbers of either sign, their size between 1/32 and 1/8: exponent 10 or 11 and a random mantissa. */
function randomHalves(random: () => number): Buffer {
  const pool = Buffer.alloc(poolBytes);
  for (let at = 0; at < poolBytes; at += 2) {
    const bits = random();
    pool.writeUInt16LE(((bits & 1) << 15) | ((10 + ((bits >>> 1) & 1)) << 10) | ((bits >>> 2) & 0x3ff), at);
  }
  return pool;
}

/** Weights need not differ all over, only look random: pieces of the pool from random places fill a tensor of any size. */
function* slices(pool: Buffer, random: () => number, bytes: number): Generator<Buffer> {
  for (let left = bytes; left > 0; ) {
    const start = (random() % (poolBytes / 2)) & ~1;
    const size = Math.min(left, poolBytes - start);
    yield pool.subarray(start, start + size);
    left -= size;
  }
}
