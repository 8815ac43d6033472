import { once } from 'node:events';
import { createServer, connect, type AddressInfo, type Server, type Socket } from 'node:net';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { type FaultProxy, startFaultProxy } from '../../support/fault-proxy.js';
import { eventually } from '../../support/servers.js';

let server: Server;
let proxy: FaultProxy;
let received: string;

beforeEach(async () => {
  received = '';
  // Answers each piece with its double.
  server = createServer((socket) => {
    socket.on('error', () => {});
    socket.on('data', (chunk: Buffer) => {
      received += chunk.toString();
      socket.write(Buffer.concat([chunk, chunk]));
    });
  }).listen(0, '127.0.0.1');
  await once(server, 'listening');
  proxy = await startFaultProxy({ host: '127.0.0.1', port: (server.address() as AddressInfo).port });
});
afterEach(async () => {
  await proxy.close();
  server.close();
});

function client() {
  const socket: Socket = connect(proxy.port, proxy.host);
  const seen = { text: '', closed: false };
  socket
    .on('data', (chunk) => (seen.text += chunk.toString()))
    .on('close', () => (seen.closed = true))
    .on('error', () => {});
  return { socket, seen };
}

test('without a fault everything passes, both ways', async () => {
  const { socket, seen } = client();
  socket.write('abc');
  await eventually(() => seen.text === 'abcabc');
  socket.end();
  await eventually(() => proxy.open() === 0);
});

test('a refused connection is closed, and only as often as asked', async () => {
  proxy.fault({ kind: 'refuse' }, 1);
  const first = client();
  await eventually(() => first.seen.closed);
  const second = client();
  second.socket.write('x');
  await eventually(() => second.seen.text === 'xx');
  expect(proxy.connections()).toBe(2);
});

test('a dropped reply: the server did the work, the caller does not know', async () => {
  proxy.fault({ kind: 'drop-reply' });
  const { socket, seen } = client();
  socket.write('abc');
  await eventually(() => seen.closed);
  expect(received).toBe('abc');
  expect(seen.text).toBe('');
});

test('a cut lets exactly so many bytes pass', async () => {
  proxy.fault({ kind: 'cut', direction: 'up', afterBytes: 2 });
  const { socket, seen } = client();
  socket.write('abc');
  await eventually(() => seen.closed);
  expect('ab'.startsWith(received)).toBe(true);
});

test('a stall keeps the connection and passes nothing more', async () => {
  proxy.fault({ kind: 'stall', direction: 'down', afterBytes: 4 });
  const { socket, seen } = client();
  socket.write('abc');
  await eventually(() => seen.text === 'abca');
  socket.write('def');
  await eventually(() => received === 'abcdef');
  expect(seen).toEqual({ text: 'abca', closed: false });
});

test('injected bytes come in place of the rest', async () => {
  proxy.fault({ kind: 'inject', direction: 'down', afterBytes: 1, bytes: 'nonsense' });
  const { socket, seen } = client();
  socket.write('abc');
  await eventually(() => seen.closed);
  expect(seen.text).toBe('anonsense');
});

test('cutting all ends what is open, and new connections pass', async () => {
  const first = client();
  first.socket.write('a');
  await eventually(() => first.seen.text === 'aa');
  proxy.cutAll();
  await eventually(() => first.seen.closed);
  const second = client();
  second.socket.write('b');
  await eventually(() => second.seen.text === 'bb');
});
