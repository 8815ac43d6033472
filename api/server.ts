import { randomUUID } from 'node:crypto';
import type { AddressInfo } from 'node:net';
import { createServer, type Server } from 'node:http';
import { getRequestListener } from '@hono/node-server';
import type { Logger } from 'pino';
import { problemTable, problemType } from '../contract/problems.js';

export interface ListenOptions {
  readonly hostname: string;
  /** 0: any free port */
  readonly port: number;
  readonly log: Logger;
}

export interface ApiServer {
  readonly port: number;
  /** Takes no more requests, lets those under way finish for at most `graceMs` (default 8 s), then cuts. A later call may cut sooner. */
  close(graceMs?: number): Promise<void>;
}

/** A client may take this long to send its headers, and its whole request. */
const headersTimeoutMs = 10_000;
const requestTimeoutMs = 30_000;
const keepAliveTimeoutMs = 65_000;
const headerBytesMax = 16_384;

/**
 * Serves an app on a port.
 * @throws Error with `code` EADDRINUSE when the port is taken
 */
export async function listen(app: { fetch(request: Request): Response | Promise<Response> }, { hostname, port, log }: ListenOptions): Promise<ApiServer> {
  const server = createServer({
    headersTimeout: headersTimeoutMs,
    requestTimeout: requestTimeoutMs,
    keepAliveTimeout: keepAliveTimeoutMs,
    maxHeaderSize: headerBytesMax,
  });
  let closing: Promise<void> | null = null;
  const answer = getRequestListener(app.fetch);
  server.on('request', (request, response) => {
    // A connection that stays open would go on sending requests to a server that is about to leave.
    if (closing !== null) response.setHeader('Connection', 'close');
    void answer(request, response);
  });
  server.on('clientError', (error: NodeJS.ErrnoException, socket) => {
    if (error.code === 'ECONNRESET' || !socket.writable) socket.destroy();
    else socket.end(refusalOf(error.code));
  });
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject);
    server.listen(port, hostname, () => {
      server.off('error', reject);
      resolve();
    });
  });
  server.on('error', (error) => log.error({ err: error }, 'HTTP server'));
  return {
    port: (server.address() as AddressInfo).port,
    async close(graceMs = 8_000) {
      closing ??= closed(server);
      const cut = setTimeout(() => {
        log.warn({ graceMs }, 'requests under way are cut');
        server.closeAllConnections();
      }, graceMs);
      await closing.finally(() => clearTimeout(cut));
    },
  };
}

async function closed(server: Server): Promise<void> {
  await new Promise<void>((resolve, reject) => {
    server.close((error) => (error === undefined ? resolve() : reject(error)));
    server.closeIdleConnections();
  });
}

/** What a connection is answered that sent no request which an app could see; the text of a whole answer. */
function refusalOf(code: string | undefined): string {
  if (code === 'ERR_HTTP_REQUEST_TIMEOUT') return 'HTTP/1.1 408 Request Timeout\r\nConnection: close\r\n\r\n';
  if (code !== 'HPE_HEADER_OVERFLOW') return 'HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n';
  const { status, title } = problemTable.headers_too_large;
  const requestId = randomUUID();
  const body = JSON.stringify({
    type: problemType('headers_too_large'),
    title,
    status,
    detail: `The address with its query and the headers may have ${headerBytesMax} bytes together.`,
    instance: '/',
    code: 'headers_too_large',
    request_id: requestId,
    errors: [],
  });
  const headers = ['Content-Type: application/problem+json', `Content-Length: ${Buffer.byteLength(body)}`, `X-Request-Id: ${requestId}`, 'Connection: close'];
  return `HTTP/1.1 ${status} Request Header Fields Too Large\r\n${headers.join('\r\n')}\r\n\r\n${body}`;
}
