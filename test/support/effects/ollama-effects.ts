import { once } from 'node:events';
import { createServer, type IncomingMessage, request as httpRequest, type ServerResponse } from 'node:http';
import type { AddressInfo, Socket } from 'node:net';
import type { Effects, EffectsProxy } from './effects.js';

export interface OllamaEffectsProxy extends EffectsProxy {
  /** models that the server had to bring into memory, in order; one that is asked for and is there is not among them */
  readonly loads: readonly string[];
  /** The server was killed, and holds nothing. */
  forget(): void;
  /** what the server holds, as far as its answers tell; null: nothing, or it is not known */
  resident(): string | null;
}

/** A proxy in front of an Ollama that holds one model, which tells `load`, `unload` and `infer`. */
export async function startOllamaEffects(target: string, effects: Effects): Promise<OllamaEffectsProxy> {
  const sockets = new Set<Socket>();
  const loads: string[] = [];
  let resident: string | null = null;
  const server = createServer((request, response) => {
    handle(request, response).catch(() => response.destroy());
  });
  server.on('connection', (socket: Socket) => {
    sockets.add(socket);
    socket.on('close', () => sockets.delete(socket));
  });

  async function handle(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const chunks: Buffer[] = [];
    for await (const chunk of request) chunks.push(chunk as Buffer);
    const body = Buffer.concat(chunks);
    const asked = effectOf(request.url ?? '', body);
    const verdict = asked === null ? 'pass' : effects.begin(asked.effect);
    if (verdict === 'lost') return;
    const forwarded = httpRequest(new URL(request.url ?? '/', target), {
      method: request.method ?? 'GET',
      headers: { ...request.headers, host: new URL(target).host },
      agent: false,
    });
    forwarded.once('error', () => response.destroy());
    response.once('close', () => forwarded.destroy());
    forwarded.end(body);
    if (asked !== null) note(asked);
    const [answer] = (await once(forwarded, 'response')) as [IncomingMessage];
    if (verdict === 'last') {
      answer.resume();
      await once(answer, 'end');
      effects.strike();
      return;
    }
    response.writeHead(answer.statusCode ?? 502, answer.headers);
    answer.pipe(response);
  }

  /** Noted when it is asked for: a load whose caller is killed goes on, or not. */
  function note({ effect, model }: { readonly effect: string; readonly model: string }): void {
    if (effect === 'unload') {
      if (resident === model) resident = null;
    } else if (resident !== model) {
      loads.push(model);
      resident = model;
    }
  }

  const cut = () => {
    for (const socket of [...sockets]) socket.resetAndDestroy();
  };
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return {
    port: (server.address() as AddressInfo).port,
    loads,
    resident: () => resident,
    forget() {
      resident = null;
    },
    cut,
    async close() {
      const closed = once(server, 'close');
      server.close();
      cut();
      await closed;
    },
  };
}

function effectOf(path: string, body: Buffer): { effect: 'load' | 'unload' | 'infer'; model: string } | null {
  if (path !== '/api/generate') return null;
  const { model = '', prompt = '', keep_alive: keepAlive } = JSON.parse(body.toString()) as { model?: string; prompt?: string; keep_alive?: number };
  return { effect: prompt !== '' ? 'infer' : keepAlive === 0 ? 'unload' : 'load', model };
}
