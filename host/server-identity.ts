import { lookup } from 'node:dns/promises';
import { readFile, readlink } from 'node:fs/promises';
import { isIP } from 'node:net';
import { hostname, networkInterfaces } from 'node:os';

/** What a machine knows of itself and of names; all that the identity of a server depends on. */
export interface MachineFacts {
  /** no other machine, and no later start of this one, has it */
  readonly machine: string;
  /** of its network: containers of one machine have a loopback each */
  readonly network: string;
  /** addresses of this machine */
  readonly own: ReadonlySet<string>;
  /** addresses of a name, in any order; none when nobody knows it */
  resolve(name: string): Promise<readonly string[]>;
}

export async function readMachineFacts(): Promise<MachineFacts> {
  return {
    machine: (await readFile('/proc/sys/kernel/random/boot_id', 'utf8').catch(() => '')).trim() || hostname(),
    network: await readlink('/proc/self/ns/net').catch(() => ''),
    own: new Set(
      Object.values(networkInterfaces())
        .flatMap((each) => each ?? [])
        .map(({ address }) => address),
    ),
    resolve: async (name) => (await lookup(name, { all: true }).catch(() => [])).map(({ address }) => address),
  };
}

/**
 * Tells which server an address means, so that two spellings of it are one, and the same spelling on two machines is not: 127.0.0.1 is another server on each,
 * and so is what containers call `ollama` or `host.docker.internal`. Addresses that are the same everywhere are compared between machines too. What this
 * cannot tell, the memory of the server does: see `hostOfSameServer`.
 * @param address of the model server, an URL
 */
export async function serverIdentity(address: string, { machine, network, own, resolve }: MachineFacts): Promise<string> {
  const url = new URL(address);
  const name = url.hostname.replace(/^\[|\]$/g, '').toLowerCase();
  const port = url.port || (url.protocol === 'https:' ? '443' : '80');
  const place = `${port}${url.pathname.replace(/\/+$/, '')}`;
  const addresses = isIP(name) ? [name] : [...(await resolve(name))].sort();
  const here = name === 'localhost' || addresses.some((each) => own.has(each) || each === '127.0.0.1' || each === '::1');
  if (here) return `${machine} ${network} ${place}`;
  // Behind the usual ports of the web there may be many servers, told apart by name.
  const byName = url.port === '' || addresses[0] === undefined;
  const text = byName ? name : (addresses[0] ?? name);
  const everywhere = byName ? name.includes('.') && !isIP(name) && addresses.some((each) => !isPrivate(each)) : !isPrivate(text);
  return `${everywhere ? '' : `${machine} `}${text} ${place}`;
}

/** Whether other machines may mean another server by this address. */
function isPrivate(address: string): boolean {
  return /^(10|127|169\.254|192\.168|172\.(1[6-9]|2\d|3[01])|100\.(6[4-9]|[7-9]\d|1[01]\d|12[0-7]))\.|^f[cd][0-9a-f]{2}:|^fe[89ab][0-9a-f]:|^::1$/i.test(
    address,
  );
}
