import { once } from 'node:events';
import { type AddressInfo, connect, createServer, type Socket } from 'node:net';

export interface CommitLossProxy {
  readonly url: string;
  /** Lets the next statement with this text in its parameters be carried out and breaks the connection as soon as the server has answered it. */
  loseAnswerTo(text: string): void;
  /** statements whose answer was lost so far */
  lost(): number;
  close(): Promise<void>;
}

/** A connection to PostgreSQL whose statements are carried out and committed without the client ever hearing of it. */
export async function startCommitLossProxy(databaseUrl: string): Promise<CommitLossProxy> {
  const target = new URL(databaseUrl);
  const sockets = new Set<Socket>();
  let armed: string | null = null;
  let lostCount = 0;
  const server = createServer((client) => {
    const upstream = connect(Number(target.port), target.hostname);
    let losing = false;
    for (const socket of [client, upstream]) {
      sockets.add(socket);
      socket
        .on('error', () => {})
        .on('close', () => {
          client.destroy();
          upstream.destroy();
        });
    }
    client.on('data', (bytes) => {
      if (armed !== null && bytes.toString('latin1').includes(armed)) {
        armed = null;
        losing = true;
      }
      upstream.write(bytes);
    });
    upstream.on('data', (bytes) => {
      // A statement outside a transaction is answered with its tag after it was committed.
      if (losing && bytes.toString('latin1').includes('SELECT 1')) {
        lostCount += 1;
        client.resetAndDestroy();
      } else client.write(bytes);
    });
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const url = new URL(databaseUrl);
  url.hostname = '127.0.0.1';
  url.port = String((server.address() as AddressInfo).port);
  return {
    url: url.href,
    loseAnswerTo(text) {
      armed = text;
    },
    lost: () => lostCount,
    async close() {
      for (const socket of sockets) socket.destroy();
      server.close();
      await once(server, 'close');
    },
  };
}
