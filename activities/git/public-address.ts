import { lookup } from 'node:dns/promises';
import { BlockList, isIP } from 'node:net';
import { StepFailure } from '../../contract/failure.js';

/** What is not the public internet. @see https://www.iana.org/assignments/iana-ipv4-special-registry and its IPv6 counterpart */
const notPublic = new BlockList();
for (const [network, prefix] of [
  ['0.0.0.0', 8],
  ['10.0.0.0', 8],
  ['100.64.0.0', 10],
  ['127.0.0.0', 8],
  ['169.254.0.0', 16],
  ['172.16.0.0', 12],
  ['192.0.0.0', 24],
  ['192.0.2.0', 24],
  ['192.168.0.0', 16],
  ['198.18.0.0', 15],
  ['198.51.100.0', 24],
  ['203.0.113.0', 24],
  ['224.0.0.0', 3],
] as const)
  notPublic.addSubnet(network, prefix, 'ipv4'); // prettier-ignore

/** Global unicast; what in it only wraps an IPv4 address, or is for documents, is taken out again. */
const globalV6 = new BlockList();
globalV6.addSubnet('2000::', 3, 'ipv6');
const notPublicV6 = new BlockList();
for (const [network, prefix] of [
  ['2001::', 23],
  ['2001:db8::', 32],
  ['2002::', 16],
  ['3fff::', 20],
] as const)
  notPublicV6.addSubnet(network, prefix, 'ipv6'); // prettier-ignore

/** Whether an IP address belongs to the public internet; every form of an address is judged by what it reaches. */
export function isPublicAddress(address: string): boolean {
  switch (isIP(address)) {
    case 4:
      return !notPublic.check(address, 'ipv4');
    case 6:
      return globalV6.check(address, 'ipv6') && !notPublicV6.check(address, 'ipv6');
    default:
      return false;
  }
}

/**
 * Resolves a host once. The caller connects to the address that was judged, so that a name cannot mean another one a moment later.
 * @param privateAllowed skips the judgement
 * @throws {StepFailure} `git_url_refused` when one of its addresses is not public; `git_clone_failed`, retryable, when the name does not resolve
 */
export async function resolveHost(host: string, privateAllowed: boolean): Promise<string> {
  const bare = host.replace(/^\[|\]$/g, '');
  const addresses = isIP(bare) ? [bare] : await lookupAll(bare);
  const inside = addresses.find((address) => !isPublicAddress(address));
  if (inside !== undefined && !privateAllowed) {
    throw new StepFailure(
      'git_url_refused',
      `the repository's host ${host} is refused: it is ${inside}, which is not on the public internet; GIT_ALLOWED_HOSTS can allow it`,
      { retryable: false },
    );
  }
  return addresses[0] as string;
}

async function lookupAll(host: string): Promise<string[]> {
  try {
    const found = await lookup(host, { all: true, order: 'ipv4first' });
    if (found.length > 0) return found.map(({ address }) => address);
  } catch (error) {
    throw new StepFailure('git_clone_failed', `the repository's host ${host} was not found`, { retryable: true, cause: error });
  }
  throw new StepFailure('git_clone_failed', `the repository's host ${host} has no address`, { retryable: true });
}
