import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { type Client, createClient } from '../client/client.js';
import { CliFailure, exitCodes, Interrupted, usageFault } from './failure.js';
import { isLocal, runningPort } from './installation.js';
import { readSurroundings, type Surroundings } from './surroundings.js';
import { openTerminal, type Terminal } from './terminal.js';
import { visibleJson } from './visible.js';

/** Options that every command takes. */
export interface GlobalOptions {
  readonly api?: string;
  readonly key?: string;
  readonly json?: boolean;
  readonly quiet?: boolean;
  readonly color?: boolean;
}

/** What a command works with. */
export interface Session {
  readonly terminal: Terminal;
  readonly json: boolean;
  readonly quiet: boolean;
  readonly home: string;
  /** whether --api was given, not only set in the environment */
  readonly apiNamed: boolean;
  /** address of the API, once `client` was called */
  address(): string | null;
  client(options?: { readonly timeoutMs?: number; readonly attemptsMax?: number }): Promise<Client>;
  /** From the first call on Ctrl-C ends what waits on this signal, with this said. */
  interruptible(message: string): AbortSignal;
  /** The one document of --json. */
  printJson(document: unknown): void;
  /** One of the many documents of --json, each on a line of its own. */
  printJsonLine(document: unknown): void;
}

export function openSession(options: GlobalOptions, surroundings: Surroundings = readSurroundings()): Session {
  const json = options.json === true;
  const terminal = openTerminal({ color: options.color !== false && surroundings.color, quiet: options.quiet === true });
  let address: string | null = null;
  return {
    terminal,
    json,
    quiet: options.quiet === true,
    home: surroundings.home,
    apiNamed: options.api !== undefined,
    address: () => address,
    async client(limits = {}) {
      address = options.api ?? surroundings.api ?? (await addressOf(surroundings.home));
      if (!/^https?:\/\/./.test(address) || !URL.canParse(address))
        throw usageFault(`${address} is no address of an API: give one such as http://127.0.0.1:8080.`);
      return createClient({ baseUrl: address, apiKey: await keyFor(address, options.key, surroundings), ...limits });
    },
    interruptible(message) {
      const controller = new AbortController();
      process.once('SIGINT', () => controller.abort(new Interrupted(message)));
      return controller.signal;
    },
    printJson: (document) => void process.stdout.write(`${visibleJson(document)}\n`),
    printJsonLine: (document) => void process.stdout.write(`${visibleJson(document, 0)}\n`),
  };
}

async function addressOf(home: string): Promise<string> {
  const port = await runningPort(home);
  if (port !== null) return `http://127.0.0.1:${port}`;
  throw new CliFailure(
    exitCodes.unreachable,
    `No installation runs in ${home}: start one with \`orchestra up\`, set ORCHESTRA_HOME to its folder, or name its API with --api or ORCHESTRA_API.`,
  );
}

async function keyFor(address: string, file: string | undefined, { key, home }: Surroundings): Promise<string> {
  if (file !== undefined) return readKey(file).catch(() => Promise.reject(usageFault(`The key file ${file} cannot be read.`)));
  if (key !== undefined) return checked(key, 'ORCHESTRA_KEY');
  const own = join(home, 'admin.key');
  if (!isLocal(address)) {
    throw new CliFailure(
      exitCodes.unreachable,
      `${address} is another machine, to which the key in ${home} is not sent: give one with --key <file> or ORCHESTRA_KEY.`,
    );
  }
  return readKey(own).catch(() =>
    Promise.reject(new CliFailure(exitCodes.unreachable, `${own} cannot be read: give a key with --key <file> or ORCHESTRA_KEY, or set ORCHESTRA_HOME.`)),
  );
}

async function readKey(file: string): Promise<string> {
  return checked((await readFile(file, 'utf8')).trim(), file);
}

function checked(key: string, source: string): string {
  if (!/^[\x21-\x7e]+$/.test(key)) throw usageFault(`${source} holds no API key.`);
  return key;
}
