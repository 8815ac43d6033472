import { once } from 'node:events';
import { type AddressInfo, connect, createServer, type Socket } from 'node:net';

export interface CommitLossProxy {
  readonly url: string;
  /** Lets the next COMMIT reach the server and breaks the connection as soon as the server has answered it. */
  loseNextCommit(): void;
  /** commits whose answer was lost so far */
  lost(): number;
  close(): Promise<void>;
}

/** A connection to PostgreSQL whose commits are carried out without the client ever hearing of it. */
export async function startCommitLossProxy(databaseUrl: string): Promise<CommitLossProxy> {
  const target = new URL(databaseUrl);
  const sockets = new Set<Socket>();
  let armed = false;
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
      if (armed && bytes.toString('latin1').toLowerCase().includes('commit')) {
        armed = false;
        losing = true;
      }
      upstream.write(bytes);
    });
    upstream.on('data', (bytes) => {
      // PostgreSQL answers a commit with its tag, after the commit is on disk.
      if (losing && bytes.toString('latin1').includes('COMMIT')) {
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
    loseNextCommit: () => {
      armed = true;
    },
    lost: () => lostCount,
    async close() {
      for (const socket of sockets) socket.destroy();
      server.close();
      await once(server, 'close');
    },
  };
}
