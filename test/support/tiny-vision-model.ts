import { createHash } from 'node:crypto';
import { Ollama } from 'ollama';
import {
  array,
  bytesOf,
  flag,
  float,
  floatBytes,
  ggufHeader,
  number,
  paddingAfter,
  type Tensor,
  text,
  valueType,
} from '../../activities/backends/server/gguf.js';
import { tinyModelBytes, tinyShape } from '../../activities/backends/server/tiny-model.js';

const [width, feedForward, patch, image] = [32, 64, 14, 28];

/** A projector as that of LLaVA: 28 x 28 pixels are four patches, two blocks, random weights. It sees nonsense, but it sees. */
function projectorBytes(): Buffer {
  const matrix = (name: string, ...dimensions: number[]): Tensor => ({ name, dimensions, type: 'f16' });
  const vector = (name: string, size: number): Tensor => ({ name, dimensions: [size], type: 'f32' });
  const block = (index: number): Tensor[] => {
    const named = (part: string) => `v.blk.${index}.${part}`;
    return [
      ...['attn_q', 'attn_k', 'attn_v', 'attn_out'].flatMap((part) => [matrix(named(`${part}.weight`), width, width), vector(named(`${part}.bias`), width)]),
      ...['ln1', 'ln2'].flatMap((part) => [vector(named(`${part}.weight`), width), vector(named(`${part}.bias`), width)]),
      matrix(named('ffn_up.weight'), width, feedForward),
      vector(named('ffn_up.bias'), feedForward),
      matrix(named('ffn_down.weight'), feedForward, width),
      vector(named('ffn_down.bias'), width),
    ];
  };
  const tensors = [
    matrix('v.patch_embd.weight', patch, patch, 3, width),
    { name: 'v.position_embd.weight', dimensions: [width, (image / patch) ** 2], type: 'f32' as const },
    vector('v.pre_ln.weight', width),
    vector('v.pre_ln.bias', width),
    ...[0, 1].flatMap(block),
    matrix('mm.0.weight', width, tinyShape.width),
    vector('mm.0.bias', tinyShape.width),
    matrix('mm.2.weight', tinyShape.width, tinyShape.width),
    vector('mm.2.bias', tinyShape.width),
  ];
  const three = (value: number) => [value, value, value].map(floatBytes);
  const metadata = [
    text('general.architecture', 'clip'),
    text('general.name', 'generated projector'),
    number('general.file_type', 1),
    flag('clip.has_vision_encoder', true),
    text('clip.projector_type', 'mlp'),
    flag('clip.use_gelu', true),
    number('clip.vision.image_size', image),
    number('clip.vision.patch_size', patch),
    number('clip.vision.embedding_length', width),
    number('clip.vision.feed_forward_length', feedForward),
    number('clip.vision.block_count', 2),
    number('clip.vision.attention.head_count', 2),
    float('clip.vision.attention.layer_norm_epsilon', 1e-5),
    number('clip.vision.projection_dim', tinyShape.width),
    array('clip.vision.image_mean', valueType.float32, three(0.5)),
    array('clip.vision.image_std', valueType.float32, three(0.5)),
  ];
  return Buffer.concat([ggufHeader(metadata, tensors), ...tensors.flatMap((tensor, index) => [weights(tensor, index), paddingAfter(bytesOf(tensor))])]);
}

/** Small numbers of either sign, other ones for each tensor; norms of about 1. */
function weights(tensor: Tensor, seed: number): Buffer {
  const bytes = Buffer.alloc(bytesOf(tensor));
  let state = seed + 1;
  const random = () => (state = (Math.imul(state, 1_103_515_245) + 12_345) >>> 0) >>> 8;
  const norm = /ln.*weight/.test(tensor.name) ? 1 : 0;
  if (tensor.type === 'f32') for (let at = 0; at < bytes.length; at += 4) bytes.writeFloatLE(norm + ((random() % 2001) - 1000) / 10_000, at);
  else for (let at = 0; at < bytes.length; at += 2) bytes.writeUInt16LE(((random() & 1) << 15) | (12 << 10) | (random() & 0x3ff), at);
  return bytes;
}

/** Creates a generated model that takes images. */
export async function createTinyVisionModel(url: string, name: string): Promise<void> {
  const files: Record<string, string> = {};
  for (const [file, bytes] of [
    ['model.gguf', tinyModelBytes({ ...tinyShape, endless: true, seed: 77 })],
    ['projector.gguf', projectorBytes()],
  ] as const) {
    const digest = `sha256:${createHash('sha256').update(bytes).digest('hex')}`;
    const stored = await fetch(`${url}/api/blobs/${digest}`, { method: 'POST', body: new Uint8Array(bytes) });
    if (!stored.ok) throw new Error(`Ollama refused ${file}: ${await stored.text()}`);
    files[file] = digest;
  }
  const client = new Ollama({ host: url });
  await client.create({ model: name, files, template: '{{ if .System }}{{ .System }}\n{{ end }}{{ .Prompt }}', stream: false } as Parameters<
    typeof client.create
  >[0] & { stream: false });
}
