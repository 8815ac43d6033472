/** Where an Ollama listens unless something else is said. */
export const ollamaDefaultPort = 11434;

export interface OllamaAddress {
  /** `http://host:port` and a path when there is one; no credentials, no slash at the end */
  readonly url: string;
  /** value of the `authorization` header, when the text carried credentials */
  readonly authorization?: string;
}

/**
 * Reads `OLLAMA_HOST` in every form Ollama itself accepts: `host`, `host:port`, `:port`, `[::1]:port`, a URL, with or without a path.
 * `0.0.0.0` and `[::]` are addresses to listen on, so they become `127.0.0.1`. Without a scheme the port is 11434, else the scheme's.
 * @throws {Error} when it is none of these; the message never repeats credentials
 */
export function parseOllamaAddress(text: string): OllamaAddress {
  const trimmed = text.trim().replace(/^["']|["']$/g, '');
  const hasScheme = trimmed.includes('://');
  let bare = hasScheme ? trimmed : `http://${trimmed}`;
  if (trimmed === '' || trimmed.startsWith(':')) bare = `http://127.0.0.1${trimmed}`;
  if (!URL.canParse(bare)) throw new Error('OLLAMA_HOST is not an address: write host, host:port or http://host:port');
  const url = new URL(bare);
  if (url.protocol !== 'http:' && url.protocol !== 'https:') throw new Error(`OLLAMA_HOST has the scheme "${url.protocol}"; only http and https are possible`);
  const host = url.hostname === '0.0.0.0' || url.hostname === '[::]' ? '127.0.0.1' : url.hostname;
  const schemePort = url.protocol === 'https:' ? '443' : '80';
  const port = url.port || (hasScheme || saysPort80(trimmed) ? schemePort : String(ollamaDefaultPort));
  const credentials =
    url.username === ''
      ? {}
      : { authorization: `Basic ${Buffer.from(`${decodeURIComponent(url.username)}:${decodeURIComponent(url.password)}`).toString('base64')}` };
  return { url: `${url.protocol}//${host}:${port}${url.pathname.replace(/\/+$/, '')}`, ...credentials };
}

/** Whether port 80 is written out, which `URL` drops as the default of http. */
function saysPort80(text: string): boolean {
  return /:80(\/|$)/.test(text);
}
