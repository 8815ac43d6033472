import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tinyModelBytes, tinyShape, type TinyModelShape } from '../../activities/backends/server/tiny-model.js';

export interface ModelRegistry {
  /** `127.0.0.1:port`, the host part of its models' names */
  readonly host: string;
  /** Publishes a generated model; returns its name, such as `127.0.0.1:5000/test/tiny:latest`. */
  publish(model: string, shape?: TinyModelShape): string;
  /** how often a manifest was asked for: once per pull */
  manifests(model: string): number;
  /** bytes of model files sent since the start */
  bytesSent(): number;
  /** The next `times` downloads of a model file break off after so many bytes. */
  cutDownloads(afterBytes: number, times: number): void;
  /** The next `times` downloads of a model file carry wrong bytes. */
  spoilDownloads(times: number): void;
  /** Downloads wait until `go` is called. */
  hold(): { go(): void };
  close(): Promise<void>;
}

interface Blob {
  readonly bytes: Buffer;
  readonly isModel: boolean;
}

/** A registry in Ollama's protocol on loopback, with generated models: manifests, blobs and ranges. Pulls from it need `insecure`. */
export async function startModelRegistry(): Promise<ModelRegistry> {
  const blobs = new Map<string, Blob>();
  const manifests = new Map<string, string>();
  const asked = new Map<string, number>();
  let sent = 0;
  let cut: { readonly afterBytes: number; left: number } | undefined;
  let spoiled = 0;
  let held: Promise<void> | undefined;

  const add = (bytes: Buffer, isModel: boolean): { digest: string; size: number } => {
    const digest = `sha256:${createHash('sha256').update(bytes).digest('hex')}`;
    blobs.set(digest, { bytes, isModel });
    return { digest, size: bytes.length };
  };

  const sendBlob = async (request: IncomingMessage, response: ServerResponse, digest: string): Promise<void> => {
    const blob = blobs.get(digest);
    if (blob === undefined) {
      response.writeHead(404).end();
      return;
    }
    const range = /^bytes=(\d+)-(\d+)$/.exec(request.headers.range ?? '');
    if (request.method === 'HEAD' || range === null) {
      // Ollama asks once without a range and takes the address of the file from this header.
      response.writeHead(200, { 'content-length': request.method === 'HEAD' ? blob.bytes.length : 0, location: request.url ?? '' }).end();
      return;
    }
    await held;
    let bytes = blob.bytes.subarray(Number(range[1]), Number(range[2]) + 1);
    response.writeHead(206, { 'content-length': bytes.length });
    if (blob.isModel && spoiled > 0) {
      spoiled -= 1;
      bytes = Buffer.alloc(bytes.length, 7);
    }
    if (blob.isModel && cut !== undefined && cut.left > 0 && bytes.length > cut.afterBytes) {
      cut.left -= 1;
      bytes = bytes.subarray(0, cut.afterBytes);
      sent += bytes.length;
      response.write(bytes, () => response.destroy());
      return;
    }
    if (blob.isModel) sent += bytes.length;
    response.end(bytes);
  };

  const server = createServer((request, response) => {
    const [, model, kind, what] = /^\/v2\/(.+)\/(manifests|blobs)\/([^/]+)$/.exec(request.url ?? '') ?? [];
    if (kind === 'blobs' && what !== undefined) {
      sendBlob(request, response, what).catch(() => response.destroy());
      return;
    }
    const name = `${model}:${what}`;
    asked.set(name, (asked.get(name) ?? 0) + 1);
    const manifest = manifests.get(name);
    if (manifest === undefined) response.writeHead(404).end();
    else response.writeHead(200, { 'content-type': 'application/vnd.docker.distribution.manifest.v2+json' }).end(manifest);
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const host = `127.0.0.1:${(server.address() as AddressInfo).port}`;

  return {
    host,
    publish(model, shape = tinyShape) {
      const layer = { mediaType: 'application/vnd.ollama.image.model', ...add(tinyModelBytes(shape), true) };
      const config = {
        model_format: 'gguf',
        model_family: 'llama',
        model_families: ['llama'],
        model_type: '0.1M',
        file_type: 'F16',
        architecture: 'amd64',
        os: 'linux',
        rootfs: { type: 'layers', diff_ids: [layer.digest] },
      };
      const mediaType = 'application/vnd.docker.distribution.manifest.v2+json';
      const manifest = {
        schemaVersion: 2,
        mediaType,
        config: { mediaType: 'application/vnd.docker.container.image.v1+json', ...add(Buffer.from(JSON.stringify(config)), false) },
        layers: [layer],
      };
      manifests.set(`test/${model}:latest`, JSON.stringify(manifest));
      return `${host}/test/${model}:latest`;
    },
    manifests: (model) => asked.get(`test/${model}:latest`) ?? 0,
    bytesSent: () => sent,
    cutDownloads(afterBytes, times) {
      cut = { afterBytes, left: times };
    },
    spoilDownloads(times) {
      spoiled = times;
    },
    hold() {
      let open = () => {};
      held = new Promise((resolve) => {
        open = resolve;
      });
      return {
        go() {
          held = undefined;
          open();
        },
      };
    },
    async close() {
      const closed = once(server, 'close');
      server.close();
      server.closeAllConnections();
      await closed;
    },
  };
}
