import { StepFailure } from '../../contract/failure.js';

/** Where a repository is, taken apart so that no part of it can be read as an option, a command or a secret. */
export interface RepositoryAddress {
  readonly scheme: string;
  /** what git is given: without user and password (ssh keeps its user) */
  readonly url: string;
  /** lower case, IP addresses normalised; empty for `file` */
  readonly host: string;
  /** null: the scheme's own */
  readonly port: string | null;
  /** `Basic ...` for http and https when the address had a user or a password */
  readonly authorization: string | null;
  /** what a message may show */
  readonly shown: string;
}

const addressCharsMax = 2048;
const hostShape = /^(?:[a-z0-9](?:[a-z0-9.-]*[a-z0-9])?|\[[0-9a-f:.]+\])$/;
const userShape = /^[A-Za-z0-9_][A-Za-z0-9._-]*$/;

/**
 * Reads the address of a repository as people write it: a URL, `user@host:path` (ssh), or an absolute path (`file`).
 * @param schemes allowed, lower case
 * @throws {StepFailure} `git_url_refused`, not retryable, without user and password in its text
 */
export function parseRepositoryAddress(text: string, schemes: readonly string[]): RepositoryAddress {
  const shown = redactAddress(text);
  const refuse = (why: string): never => {
    throw new StepFailure('git_url_refused', `the repository ${JSON.stringify(shown.slice(0, 300))} is refused: ${why}`, { retryable: false });
  };
  if (text.length > addressCharsMax) return refuse(`it has more than ${addressCharsMax} characters`);
  // biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is looked for
  if (/[\u0000-\u0020\u007f-\u009f\\]/.test(text)) return refuse('it contains blanks, control characters or backslashes');
  if (text.startsWith('-')) return refuse('it looks like an option');
  if (/^[A-Za-z0-9+.-]*::/.test(text)) return refuse('it names a remote helper');

  const written = /^([A-Za-z][A-Za-z0-9+.-]*):\/\//.exec(text)?.[1]?.toLowerCase();
  const scp = written === undefined ? /^(?:([^@/:]+)@)?([^@/:]+|\[[^\]]+\]):(.+)$/.exec(text) : null;
  const scheme = written ?? (scp ? 'ssh' : 'file');
  if (!schemes.includes(scheme)) return refuse(`its scheme "${scheme}" is not allowed; allowed are ${schemes.join(', ')}`);
  if (scheme === 'file') {
    const path = written === undefined ? text : text.slice('file://'.length);
    if (!path.startsWith('/')) return refuse('a local repository is named by its absolute path');
    return { scheme, url: `file://${path}`, host: '', port: null, authorization: null, shown };
  }
  const url = readUrl(scp ? `ssh://${scp[1] === undefined ? '' : `${scp[1]}@`}${scp[2]}/${scp[3]}` : text);
  if (!url) return refuse('it is not a URL');
  const host = url.hostname.toLowerCase().replace(/\.$/, '');
  if (!hostShape.test(host)) return refuse('its host is not a name or an address');
  if (url.pathname.length < 2 || url.pathname.startsWith('/-')) return refuse('it names no repository');
  if (url.hash !== '') return refuse('it contains a fragment');
  const user = decode(url.username);
  const password = decode(url.password);
  if (user === undefined || password === undefined) return refuse('its user or password is not well formed');
  const port = url.port === '' ? null : url.port;
  const at = port === null ? host : `${host}:${port}`;
  if (scheme === 'ssh') {
    if (password !== '') return refuse('ssh takes no password; use a key');
    if (user !== '' && !userShape.test(user)) return refuse('its user is not well formed');
    const sshUser = user === '' ? '' : `${user}@`;
    // The short form counts from the user's home, which a URL cannot say.
    const sshUrl = scp && port === null && !host.startsWith('[') ? `${sshUser}${host}:${scp[3]}` : `ssh://${sshUser}${at}${url.pathname}`;
    if (scp?.[3]?.startsWith('-')) return refuse('its path looks like an option');
    return { scheme, url: sshUrl, host, port, authorization: null, shown };
  }
  const authorization = user === '' && password === '' ? null : `Basic ${Buffer.from(`${user}:${password}`).toString('base64')}`;
  return { scheme, url: `${scheme}://${at}${url.pathname}${url.search}`, host, port, authorization, shown };
}

/** Takes users, passwords and tokens out of every URL in a text. */
export function redactAddress(text: string): string {
  return text
    .replaceAll(/([A-Za-z][A-Za-z0-9+.-]*:\/\/)[^/\s'"]*@/g, '$1***@')
    .replaceAll(/([?&][^=&\s]*(?:token|key|secret|password)[^=&\s]*=)[^&\s'"]+/gi, '$1***');
}

function readUrl(text: string): URL | undefined {
  try {
    return new URL(text);
  } catch {
    return undefined;
  }
}

function decode(part: string): string | undefined {
  try {
    const text = decodeURIComponent(part);
    // biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is looked for
    return /[\u0000-\u001f\u007f]/.test(text) ? undefined : text;
  } catch {
    return undefined;
  }
}
