import { once } from 'node:events';
import { type AddressInfo, connect, createServer, type Socket } from 'node:net';

/** A connection to PostgreSQL on which chosen statements are carried out without the client ever hearing of it. */
export interface AnswerLossProxy {
  /** the same database, through this proxy */
  through(databaseUrl: string): string;
  /**
   * Breaks the connection as soon as the server has carried out the next statement with this text.
   * A client sends the text once for each connection and statement, so name it before its first use.
   */
  loseNext(text: string): void;
  /** texts whose answer was lost, in order */
  readonly lost: readonly string[];
  close(): Promise<void>;
}

/** What PostgreSQL sends when a statement outside of a transaction is done and on disk. */
const readyForQuery = Buffer.from([0x5a, 0, 0, 0, 5, 0x49]);

export async function startAnswerLossProxy(target: { readonly host: string; readonly port: number }): Promise<AnswerLossProxy> {
  const sockets = new Set<Socket>();
  const armed: string[] = [];
  const lost: string[] = [];
  const server = createServer((client) => {
    const upstream = connect(target.port, target.host);
    let losing: string | undefined;
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
      const found = losing === undefined ? armed.findIndex((text) => bytes.includes(text)) : -1;
      if (found >= 0) [losing] = armed.splice(found, 1);
      upstream.write(bytes);
    });
    upstream.on('data', (bytes) => {
      if (losing === undefined || !bytes.subarray(-readyForQuery.length).equals(readyForQuery)) {
        client.write(bytes);
        return;
      }
      lost.push(losing);
      client.resetAndDestroy();
    });
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  return {
    through(databaseUrl) {
      const url = new URL(databaseUrl);
      url.hostname = '127.0.0.1';
      url.port = String(port);
      return url.href;
    },
    loseNext: (text) => void armed.push(text),
    lost,
    async close() {
      const closed = once(server, 'close');
      server.close();
      for (const socket of sockets) socket.destroy();
      await closed;
    },
  };
}
