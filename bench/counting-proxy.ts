import { createServer, connect as dial, type Server, type Socket } from 'node:net';

/** A TCP proxy before PostgreSQL that counts what clients ask, so that round trips are counted and not guessed. */
export interface CountingProxy {
  readonly port: number;
  /** requests so far: each Sync of the extended protocol and each simple query is one round trip at most */
  count(): number;
  stop(): Promise<void>;
}

/** Of the frontend's messages, those that the server answers with ReadyForQuery. https://www.postgresql.org/docs/current/protocol-message-formats.html */
const asking = new Set(['S', 'Q'].map((letter) => letter.charCodeAt(0)));

export async function startCountingProxy(target: { host: string; port: number }): Promise<CountingProxy> {
  let count = 0;
  const sockets = new Set<Socket>();
  const server: Server = createServer((client) => {
    const upstream = dial(target.port, target.host);
    for (const socket of [client, upstream]) {
      sockets.add(socket);
      socket.setNoDelay(true);
      socket.on('error', () => socket.destroy());
      socket.on('close', () => {
        sockets.delete(socket);
        client.destroy();
        upstream.destroy();
      });
    }
    const parse = messageCounter(() => {
      count += 1;
    });
    client.on('data', (chunk: Buffer) => {
      parse(chunk);
      upstream.write(chunk);
    });
    upstream.pipe(client);
  });
  await new Promise<void>((resolve, reject) => server.once('error', reject).listen(0, '127.0.0.1', resolve));
  return {
    port: (server.address() as { port: number }).port,
    count: () => count,
    async stop() {
      for (const socket of sockets) socket.destroy();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}

/** Follows the stream of one connection: a start-up message without a type, then type and length before each message. */
function messageCounter(onRequest: () => void): (chunk: Buffer) => void {
  let rest: Buffer = Buffer.alloc(0);
  let started = false;
  return (chunk) => {
    rest = rest.length === 0 ? chunk : Buffer.concat([rest, chunk]);
    for (;;) {
      const header = started ? 5 : 4;
      if (rest.length < header) return;
      const length = rest.readInt32BE(header - 4) + header - 4;
      if (rest.length < length) return;
      if (started && asking.has(rest[0] ?? 0)) onRequest();
      // An encryption request (8 bytes, code 80877103) is answered before the true start-up message.
      started ||= !(length === 8 && rest.readInt32BE(4) === 80877103);
      rest = rest.subarray(length);
    }
  };
}
