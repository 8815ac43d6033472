import { once } from 'node:events';
import { createServer, connect, type AddressInfo, type Socket } from 'node:net';

/** `up`: from the client to the server; `down`: back. */
export type Direction = 'up' | 'down';

/**
 * What a {@link FaultProxy} does to a connection. Bytes are counted per connection and direction.
 * - `refuse`: the connection is closed as soon as it is made.
 * - `cut`: both sides are reset after so many bytes of that direction have passed.
 * - `stall`: after so many bytes of that direction nothing passes any more, and the sockets stay open.
 * - `drop-reply`: requests reach the server, nothing comes back, and the connection is reset once the server has answered (done, but the caller does not know).
 * - `inject`: so many bytes pass, then these are sent in their place, and the connection ends.
 * - `delay`: each piece of that direction waits so long.
 */
export type Fault =
  | { readonly kind: 'refuse' }
  | { readonly kind: 'cut'; readonly direction: Direction; readonly afterBytes: number }
  | { readonly kind: 'stall'; readonly direction: Direction; readonly afterBytes: number }
  | { readonly kind: 'drop-reply' }
  | { readonly kind: 'inject'; readonly direction: Direction; readonly afterBytes: number; readonly bytes: string | Buffer }
  | { readonly kind: 'delay'; readonly direction: Direction; readonly delayMs: number };

export interface FaultProxy {
  readonly host: '127.0.0.1';
  readonly port: number;
  /** connections accepted so far, refused ones too */
  connections(): number;
  /** connections open now */
  open(): number;
  /** Applies to the connections made from now on, at most `times` of them; replaces the fault before it. */
  fault(fault: Fault, times?: number): void;
  /** New connections pass unharmed; stalled ones stay as they are. */
  heal(): void;
  /** Resets all connections, as a network or a server that goes away does. */
  cutAll(): void;
  close(): Promise<void>;
}

/** A TCP proxy on loopback that harms what passes; for PostgreSQL, Temporal, Ollama and git alike. */
export async function startFaultProxy(target: { readonly host: string; readonly port: number }): Promise<FaultProxy> {
  const pairs = new Set<readonly [Socket, Socket]>();
  let accepted = 0;
  let current: { readonly fault: Fault; left: number } | undefined;

  const finished = (pair: readonly [Socket, Socket]) => {
    pairs.delete(pair);
    for (const socket of pair) if (!socket.destroyed) socket.destroySoon();
  };
  const cutAll = () => {
    for (const pair of [...pairs]) for (const socket of pair) socket.resetAndDestroy();
    pairs.clear();
  };
  const takeFault = (): Fault | undefined => {
    if (current === undefined || current.left <= 0) return undefined;
    current.left -= 1;
    return current.fault;
  };

  const server = createServer({ pauseOnConnect: true, allowHalfOpen: true }, (client) => {
    accepted += 1;
    const fault = takeFault();
    if (fault?.kind === 'refuse') {
      client.resetAndDestroy();
      return;
    }
    const upstream = connect({ port: target.port, host: target.host, allowHalfOpen: true });
    const pair = [client, upstream] as const;
    pairs.add(pair);
    const reset = () => {
      pairs.delete(pair);
      for (const socket of pair) socket.resetAndDestroy();
    };
    for (const socket of pair) socket.on('error', reset).on('close', () => finished(pair));
    pass(client, upstream, 'up', fault, reset);
    pass(upstream, client, 'down', fault, reset);
    client.resume();
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');

  return {
    host: '127.0.0.1',
    port: (server.address() as AddressInfo).port,
    connections: () => accepted,
    open: () => pairs.size,
    fault(fault, times = Number.POSITIVE_INFINITY) {
      current = { fault, left: times };
    },
    heal() {
      current = undefined;
    },
    cutAll,
    async close() {
      const closed = once(server, 'close');
      server.close();
      cutAll();
      await closed;
    },
  };
}

function pass(from: Socket, to: Socket, direction: Direction, fault: Fault | undefined, reset: () => void): void {
  let passed = 0;
  let ended = false;
  from.on('data', (chunk) => {
    if (ended) return;
    if (fault?.kind === 'drop-reply' && direction === 'down') {
      ended = true;
      reset();
      return;
    }
    if (fault?.kind === 'delay' && fault.direction === direction) {
      setTimeout(() => write(from, to, chunk), fault.delayMs);
      return;
    }
    const limited =
      fault !== undefined && (fault.kind === 'cut' || fault.kind === 'stall' || fault.kind === 'inject') && fault.direction === direction ? fault : undefined;
    if (limited === undefined || passed + chunk.length < limited.afterBytes) {
      passed += chunk.length;
      write(from, to, chunk);
      return;
    }
    ended = true;
    const rest = chunk.subarray(0, limited.afterBytes - passed);
    if (limited.kind === 'stall') {
      if (rest.length > 0) write(from, to, rest);
    } else if (limited.kind === 'inject') {
      to.end(Buffer.concat([rest, Buffer.from(limited.bytes)]));
    } else if (rest.length > 0) {
      to.write(rest, reset);
    } else {
      reset();
    }
  });
  from.on('end', () => {
    if (!ended) to.end();
  });
}

/** Writes with back-pressure, so that a slow reader does not fill the proxy's memory. */
function write(from: Socket, to: Socket, chunk: Buffer): void {
  if (to.destroyed || to.write(chunk)) return;
  from.pause();
  to.once('drain', () => from.resume());
}
