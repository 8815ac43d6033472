import { once } from 'node:events';
import { createServer, type IncomingMessage } from 'node:http';
import type { AddressInfo } from 'node:net';
import { createProgram } from '../../../cli/program.js';

/** A request that a command has sent. */
export interface Sent {
  readonly method: string;
  /** below `/api/v1`, without its query */
  readonly path: string;
  readonly query: URLSearchParams;
  readonly key: string | undefined;
  readonly body: unknown;
}

export interface Ran {
  readonly code: number;
  readonly out: string;
  readonly err: string;
  readonly sent: readonly Sent[];
  /** what was given to mains; none is run */
  readonly mains: readonly (readonly unknown[])[];
}

export interface RunOptions {
  /** what the API answers: a document, or a Response */
  readonly answer?: (sent: Sent) => unknown;
  /** standard output is a terminal */
  readonly terminal?: boolean;
  readonly env?: Readonly<Record<string, string>>;
}

/** Runs a command of the command line in this process, on an API that answers as told, with all that it prints. `API` among the arguments stands for the address. */
export async function runCommand(args: readonly string[], { answer = () => ({}), terminal = false, env = {} }: RunOptions = {}): Promise<Ran> {
  const sent: Sent[] = [];
  const mains: unknown[][] = [];
  const server = createServer((request, response) => {
    void (async () => {
      const seen = await sentOf(request);
      sent.push(seen);
      const given = answer(seen);
      const reply = given instanceof Response ? given : Response.json(given);
      response.writeHead(reply.status, Object.fromEntries(reply.headers));
      response.end(Buffer.from(await reply.arrayBuffer()));
    })();
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const api = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  const printed = { out: '', err: '' };
  const changed = Object.entries({ ORCHESTRA_API: api, ORCHESTRA_KEY: 'key-of-the-test', ORCHESTRA_HOME: '/nowhere/orchestra', ...env });
  const before = changed.map(([name]) => [name, process.env[name]] as const);
  const writes = [process.stdout.write, process.stderr.write] as const;
  const tty = Object.getOwnPropertyDescriptor(process.stdout, 'isTTY');
  const code = process.exitCode;
  try {
    for (const [name, value] of changed) process.env[name] = value;
    process.stdout.write = keep('out') as typeof process.stdout.write;
    process.stderr.write = keep('err') as typeof process.stderr.write;
    Object.defineProperty(process.stdout, 'isTTY', { value: terminal, configurable: true });
    process.exitCode = 0;
    const program = createProgram({ cli: 'main.js', version: () => '1.2.3', main: async (...given) => void mains.push(given) });
    await program.parseAsync(['node', 'orchestra', ...args.map((arg) => (arg === 'API' ? api : arg))]);
    return { code: Number(process.exitCode), ...printed, sent, mains };
  } finally {
    [process.stdout.write, process.stderr.write] = writes;
    if (tty === undefined) Reflect.deleteProperty(process.stdout, 'isTTY');
    else Object.defineProperty(process.stdout, 'isTTY', tty);
    process.exitCode = code;
    for (const [name, value] of before) {
      if (value === undefined) Reflect.deleteProperty(process.env, name);
      else process.env[name] = value;
    }
    server.closeAllConnections();
    server.close();
  }

  function keep(stream: 'out' | 'err') {
    return (text: string | Uint8Array, ...rest: unknown[]): boolean => {
      printed[stream] += typeof text === 'string' ? text : Buffer.from(text).toString();
      const done = rest.at(-1);
      if (typeof done === 'function') (done as () => void)();
      return true;
    };
  }
}

async function sentOf(request: IncomingMessage): Promise<Sent> {
  let text = '';
  for await (const chunk of request) text += String(chunk);
  const { pathname, searchParams } = new URL(request.url ?? '/', 'http://host');
  return {
    method: request.method ?? '',
    path: pathname.replace('/api/v1', ''),
    query: searchParams,
    key: request.headers.authorization?.replace('Bearer ', ''),
    body: text === '' ? undefined : JSON.parse(text),
  };
}
