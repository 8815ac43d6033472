import { once } from 'node:events';
import {
  type ClientHttp2Session,
  connect,
  constants,
  createServer,
  type IncomingHttpHeaders,
  type ServerHttp2Session,
  type ServerHttp2Stream,
} from 'node:http2';
import type { AddressInfo } from 'node:net';
import type { Effects, EffectsProxy } from './effects.js';

/** Calls that change something at the server and are promised to be repeated or harmless; polls and heartbeats are neither. */
const counted = new Set([
  'StartWorkflowExecution',
  'SignalWorkflowExecution',
  'SignalWithStartWorkflowExecution',
  'RequestCancelWorkflowExecution',
  'RespondWorkflowTaskCompleted',
  'RespondWorkflowTaskFailed',
  'RespondActivityTaskCompleted',
  'RespondActivityTaskFailed',
  'RespondActivityTaskCanceled',
]);

export interface TemporalEffectsProxy extends EffectsProxy {
  /** From now on calls of this name are answered with this gRPC status, and the server never sees them; undefined: none is. */
  refuse(call: string | undefined, status?: number): void;
}

/** A gRPC proxy in front of a Temporal server without TLS, which tells the calls that change something by their names. */
export async function startTemporalEffects(address: string, effects: Effects): Promise<TemporalEffectsProxy> {
  /** the connections to the server for each of a client; new calls go over the last one */
  const sessions = new Map<ServerHttp2Session, ClientHttp2Session[]>();
  let refused: { readonly call: string; readonly status: number } | undefined;
  const server = createServer();
  const drop = (session: ServerHttp2Session) => {
    const upstreams = sessions.get(session) ?? [];
    sessions.delete(session);
    // Not inside a callback of a session: Node 20.20 then frees streams of it that it still uses, and the process ends in a corrupted heap.
    setImmediate(() => {
      session.destroy();
      for (const upstream of upstreams) upstream.destroy();
    });
  };
  const reach = (session: ServerHttp2Session) => {
    const upstream = connect(`http://${address}`);
    sessions.set(session, [...(sessions.get(session) ?? []), upstream]);
    upstream
      .on('error', () => {})
      // A server lets connections go after some minutes; what is under way ends on the old one.
      .on('goaway', () => {
        if (sessions.get(session)?.at(-1) === upstream) reach(session);
      })
      .on('close', () => {
        if (sessions.get(session)?.at(-1) === upstream) drop(session);
      });
  };
  const cut = () => {
    for (const session of [...sessions.keys()]) drop(session);
  };

  server.on('session', (session) => {
    session.on('error', () => {}).on('close', () => drop(session));
    reach(session);
  });
  server.on('stream', (stream, headers) => {
    stream.on('error', () => {});
    const upstream = stream.session === undefined ? undefined : sessions.get(stream.session as ServerHttp2Session)?.at(-1);
    if (upstream === undefined || upstream.closed || upstream.destroyed) return stream.close(constants.NGHTTP2_CANCEL);
    const call = String(headers[':path']).split('/').at(-1) ?? '';
    if (call === refused?.call) {
      stream.respond({ ':status': 200, 'content-type': 'application/grpc', 'grpc-status': refused.status, 'grpc-message': 'refused' }, { endStream: true });
      return undefined;
    }
    const verdict = counted.has(call) ? effects.begin(call) : 'pass';
    if (verdict !== 'lost') pass(stream, headers, upstream, verdict === 'last' ? effects.strike : undefined);
    return undefined;
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return {
    port: (server.address() as AddressInfo).port,
    refuse(call, status = 7) {
      refused = call === undefined ? undefined : { call, status };
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

/** @param kept called in the place of the answer, when it is there */
function pass(stream: ServerHttp2Stream, headers: IncomingHttpHeaders, upstream: ClientHttp2Session, kept: (() => void) | undefined): void {
  const call = upstream.request(headers);
  let trailers: IncomingHttpHeaders = {};
  call.on('error', () => {});
  call.on('response', (answer, flags) => {
    const isAll = (flags & constants.NGHTTP2_FLAG_END_STREAM) !== 0;
    if (kept !== undefined) {
      call.on('end', kept).resume();
      return;
    }
    if (stream.destroyed) return;
    stream.respond(answer, isAll ? { endStream: true } : { waitForTrailers: true });
    if (!isAll) call.pipe(stream);
  });
  call.on('trailers', (given) => {
    trailers = given;
  });
  stream.on('wantTrailers', () => stream.sendTrailers(trailers));
  call.on('close', () => {
    if (call.rstCode !== constants.NGHTTP2_NO_ERROR) stream.close(call.rstCode);
  });
  stream.on('close', () => {
    if (!call.destroyed) call.close(constants.NGHTTP2_CANCEL);
  });
  stream.pipe(call);
}
