import { once } from 'node:events';
import { createServer, request as httpRequest, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';

/**
 * What a {@link HttpFaultProxy} does to a request. Lines are those of the answer's body.
 * - `answer`: the server never sees the request; this is the answer.
 * - `hold`: the server never sees the request, and nothing comes; the connection stays open.
 * - `drop-reply`: the server does the work, the answer is lost.
 * - `cut`: the answer breaks off after so many lines.
 * - `stall`: after so many lines nothing comes any more; the connection stays open.
 * - `line`: after so many lines comes this one, and the answer ends in good order.
 */
export type HttpFault =
  | { readonly kind: 'answer'; readonly status: number; readonly body: string; readonly contentType?: string }
  | { readonly kind: 'drop-reply' }
  | { readonly kind: 'hold' }
  | { readonly kind: 'cut' | 'stall'; readonly afterLines: number }
  | { readonly kind: 'line'; readonly afterLines: number; readonly line: string };

type StallEnd = 'goes on' | 'broken off';

export interface SeenRequest {
  readonly method: string;
  readonly path: string;
  readonly body: string;
}

export interface HttpFaultProxy {
  /** `http://127.0.0.1:port` */
  readonly url: string;
  /** every request so far, oldest first */
  readonly requests: readonly SeenRequest[];
  /** requests whose connection to the real server is still open */
  underWay(): number;
  /** Harms the next `times` requests whose path starts with `path`. */
  fault(path: string, fault: HttpFault, times?: number): void;
  heal(): void;
  /** answers that are stalled */
  stalled(): number;
  /** Lets answers that are stalled go on to their end. */
  goOn(): void;
  /** Breaks off answers that are stalled, as when the server dies before it has said the rest. */
  breakOff(): void;
  close(): Promise<void>;
}

/** An HTTP proxy on loopback in front of one server, which counts lines rather than bytes; see fault-proxy.ts for the rest. */
export async function startHttpFaultProxy(target: string): Promise<HttpFaultProxy> {
  const seen: SeenRequest[] = [];
  let rule: { readonly path: string; readonly fault: HttpFault; left: number } | undefined;
  let underWay = 0;
  const stalled = new Set<(how: StallEnd) => void>();

  const server = createServer((request, response) => {
    handle(request, response).catch(() => response.destroy());
  });

  async function handle(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const chunks: Buffer[] = [];
    for await (const chunk of request) chunks.push(chunk as Buffer);
    const body = Buffer.concat(chunks);
    const path = request.url ?? '/';
    seen.push({ method: request.method ?? '', path, body: body.toString() });
    const fault = rule !== undefined && rule.left > 0 && path.startsWith(rule.path) ? rule.fault : undefined;
    if (fault !== undefined && rule !== undefined) rule.left -= 1;
    if (fault?.kind === 'answer') {
      response.writeHead(fault.status, { 'content-type': fault.contentType ?? 'application/json' }).end(fault.body);
      return;
    }
    if (fault?.kind === 'hold') return;
    const forwarded = httpRequest(new URL(path, target), {
      method: request.method ?? 'GET',
      headers: { ...request.headers, host: new URL(target).host },
      agent: false,
    });
    underWay += 1;
    forwarded.once('close', () => {
      underWay -= 1;
    });
    forwarded.once('error', () => response.destroy());
    response.once('close', () => forwarded.destroy());
    forwarded.end(body);
    const [answer] = (await once(forwarded, 'response')) as [IncomingMessage];
    if (fault?.kind === 'drop-reply') {
      answer.resume();
      await once(answer, 'end');
      response.destroy();
      return;
    }
    response.writeHead(answer.statusCode ?? 502, answer.headers);
    await passLines(answer, response, fault, (end) => void stalled.add(end));
  }
  function endStalls(how: StallEnd): void {
    for (const end of stalled) end(how);
    stalled.clear();
  }

  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    requests: seen,
    underWay: () => underWay,
    fault(path, fault, times = Number.POSITIVE_INFINITY) {
      rule = { path, fault, left: times };
    },
    heal() {
      rule = undefined;
    },
    stalled: () => stalled.size,
    goOn: () => endStalls('goes on'),
    breakOff: () => endStalls('broken off'),
    async close() {
      const closed = once(server, 'close');
      server.close();
      server.closeAllConnections();
      await closed;
    },
  };
}

async function passLines(
  answer: IncomingMessage,
  response: ServerResponse,
  fault: Exclude<HttpFault, { kind: 'answer' | 'drop-reply' | 'hold' }> | undefined,
  onStall: (end: (how: StallEnd) => void) => void,
): Promise<void> {
  if (fault === undefined) {
    answer.pipe(response);
    return;
  }
  let lines = 0;
  let passed = false;
  for await (const chunk of answer) {
    for (const line of (chunk as Buffer).toString().split(/(?<=\n)/)) {
      if (lines >= fault.afterLines && !passed) {
        if (fault.kind === 'line') response.end(`${fault.line}\n`);
        if (fault.kind === 'cut') response.destroy();
        if (fault.kind === 'stall') {
          const ended = new Promise<StallEnd>(onStall);
          passed = (await Promise.race([once(response, 'close'), ended])) === 'goes on';
          if (!passed) response.destroy();
        }
        if (!passed) return;
      }
      response.write(line);
      if (line.endsWith('\n')) lines += 1;
    }
  }
  response.end();
}
