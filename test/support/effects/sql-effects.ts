import { once } from 'node:events';
import { type AddressInfo, connect, createServer, type Socket } from 'node:net';
import type { Effects, EffectsProxy } from './effects.js';

/** Tables whose changes are effects; leases, measurements and forecasts are written all the time, and nothing is promised of them. */
const tables = ['outbox', 'residency', 'residency_orders', 'holds', 'tasks'];
const writes = new RegExp(`\\b(?:insert into|update|delete from) (?:${tables.join('|')})\\b`);
const moves = /\b(?:line_(?:enter|claim|finish|fail|leave|close)|decide_write)(?=\()/;

/** A PostgreSQL proxy that tells the writes that pass by the name of their function or by what they change; a transaction is one, when it commits. */
export async function startSqlEffects(target: { readonly host: string; readonly port: number }, effects: Effects): Promise<EffectsProxy> {
  const pairs = new Map<Socket, Socket>();
  const cut = () => {
    for (const client of pairs.keys()) client.resetAndDestroy();
  };
  const server = createServer((client) => {
    const upstream = connect(target.port, target.host);
    pairs.set(client, upstream);
    // What was sent before the end is read and carried out by the server, which then sees the end.
    client.on('error', () => {}).on('close', () => upstream.end());
    upstream
      .on('error', () => {})
      .on('close', () => {
        pairs.delete(client);
        client.destroy();
      });
    watchConnection(client, upstream, effects);
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return {
    port: (server.address() as AddressInfo).port,
    cut,
    async close() {
      const closed = once(server, 'close');
      server.close();
      for (const pair of pairs) for (const socket of pair) socket.destroy();
      await closed;
    },
  };
}

function watchConnection(client: Socket, upstream: Socket, effects: Effects): void {
  const statements = new Map<string, string>();
  let bound = '';
  let last = false;
  /** what the server has to answer with ReadyForQuery: the start, and each Sync or simple query; true: the effect after which its process is struck */
  const answers: boolean[] = [false];
  const written = createWritten();

  const begin = (text: string): boolean => {
    const effect = written(text);
    if (effect === null) return true;
    const verdict = effects.begin(effect);
    last ||= verdict === 'last';
    return verdict !== 'lost';
  };

  /** @returns false when the process was struck before this message */
  function fromClient(type: string, body: Buffer): boolean {
    switch (type) {
      case 'P': {
        const [name = '', text = ''] = body.toString().split('\0');
        statements.set(name, text);
        return true;
      }
      case 'B':
        bound = statements.get(body.toString().split('\0')[1] ?? '') ?? '';
        return true;
      case 'E':
        return begin(bound);
      case 'Q':
      case 'S':
        if (type === 'Q' && !begin(body.toString().split('\0')[0] ?? '')) return false;
        answers.push(last);
        last = false;
        return true;
      default:
        return true;
    }
  }

  eachMessage(client, true, (type, whole, body) => {
    if (!fromClient(type, body)) return false;
    if (!upstream.destroyed) upstream.write(whole);
    return true;
  });
  eachMessage(upstream, false, (type, whole) => {
    const kept = answers[0] === true;
    if (type === 'Z' && answers.shift() === true) {
      effects.strike();
      return false;
    }
    // A client that reads slowly would fill our memory; those of the tests do not.
    if (!kept && !client.destroyed) client.write(whole);
    return true;
  });
}

/** What a statement changes, in words; of a transaction that is told with its `commit`. Null: nothing yet. */
function createWritten(): (text: string) => string | null {
  let within = false;
  let first: string | null = null;
  return (text) => {
    const flat = text.replace(/\s+/g, ' ').trim().toLowerCase();
    if (flat.startsWith('begin')) {
      within = true;
      first = null;
      return null;
    }
    if (flat === 'commit' || flat === 'rollback') {
      within = false;
      return flat === 'commit' ? first : null;
    }
    const found = moves.exec(flat)?.[0] ?? writes.exec(flat)?.[0] ?? null;
    if (!within) return found;
    first ??= found;
    return null;
  };
}

/** Cuts the bytes of one side into the messages of PostgreSQL's protocol, until `take` returns false. @param greets the side begins with a message without a type */
function eachMessage(from: Socket, greets: boolean, take: (type: string, whole: Buffer, body: Buffer) => boolean): void {
  let bytes: Buffer = Buffer.alloc(0);
  let greeting = greets;
  let ended = false;
  from.on('data', (chunk: Buffer) => {
    if (ended) return;
    bytes = bytes.length === 0 ? chunk : Buffer.concat([bytes, chunk]);
    for (;;) {
      const head = greeting ? 0 : 1;
      if (bytes.length < head + 4) return;
      const length = head + bytes.readInt32BE(head);
      if (bytes.length < length) return;
      const whole = bytes.subarray(0, length);
      bytes = bytes.subarray(length);
      const type = greeting ? '' : String.fromCharCode(whole[0] ?? 0);
      greeting = false;
      if (take(type, whole, whole.subarray(head + 4))) continue;
      ended = true;
      return;
    }
  });
}
