/** Registry hosts a model may come from unless the configuration adds one: Ollama's own library, and Hugging Face through Ollama. */
export const defaultRegistries: readonly string[] = ['registry.ollama.ai', 'hf.co'];

/** Characters of a whole name; Ollama takes 80 per part. */
export const modelNameCharsMax = 280;
const partCharsMax = 80;

const ownLibrary = 'registry.ollama.ai';
const host = /^[a-z0-9]([a-z0-9.-]*[a-z0-9])?(:[0-9]{1,5})?$/;
const namespace = /^[A-Za-z0-9_][A-Za-z0-9_-]*$/;
const modelOrTag = /^[A-Za-z0-9_][A-Za-z0-9._-]*$/;
const loopbackHost = /^(127(\.\d{1,3}){3}|localhost|\[::1\])(:\d+)?$/;

/** `digest`: what a pin asks for, `sha256:<64 hex>`, lower case; null without one. */
export type ParsedModelName = { readonly name: string; readonly digest: string | null } | { readonly problem: string };

const pin = /^(.+)@(sha256:[0-9a-f]{64})$/i;

/**
 * Reads a model's name as people write it and gives the one form that keys, queues and rows use:
 * `llama3.1` and `registry.ollama.ai/library/llama3.1` are `llama3.1:latest`. Other forms: `user/model:tag`, `hf.co/org/repo:Q4_K_M`,
 * `127.0.0.1:5000/ns/model:tag` for a registry that is listed. The host is lower-cased, and so are the names of Ollama's own library,
 * which Ollama compares without case; tags keep theirs, since registries do not. A pin, `@sha256:<64 hex>` behind the name, is taken apart.
 * @param text untrusted; control characters, blanks, schemes and `..` are refused
 * @param registries hosts, lower case, with a port where there is one; see {@link defaultRegistries}
 * @returns the normalised name, or a sentence saying what is wrong, which never repeats an over-long or unprintable text
 */
export function parseModelName(text: string, registries: readonly string[]): ParsedModelName {
  const [, pinned, digest] = pin.exec(text.length > modelNameCharsMax ? '' : text) ?? [];
  const parsed = parsePlainName(pinned ?? text, registries);
  return 'problem' in parsed ? parsed : { name: parsed.name, digest: digest?.toLowerCase() ?? null };
}

function parsePlainName(text: string, registries: readonly string[]): { readonly name: string } | { readonly problem: string } {
  if (text === '') return { problem: 'a model name may not be empty' };
  if (text.length > modelNameCharsMax) return { problem: `a model name may have at most ${modelNameCharsMax} characters, this one has ${text.length}` };
  if (!/^[\x21-\x7e]+$/.test(text)) return { problem: 'a model name consists of printable ASCII characters without blanks' };
  if (text.includes('://')) return { problem: `model name "${text}": write it without a scheme` };
  if (text.includes('@')) return { problem: `model name "${text}": a pin is written @sha256: and 64 hexadecimal digits, behind the tag` };
  if (text.includes('..')) return { problem: `model name "${text}" may not contain ".."` };

  const parts = text.split('/');
  if (parts.length > 3) return { problem: `model name "${text}" has more parts than host/namespace/model` };
  const last = parts.pop() ?? '';
  const colon = last.indexOf(':');
  const model = colon === -1 ? last : last.slice(0, colon);
  const tag = colon === -1 ? 'latest' : last.slice(colon + 1);
  const space = parts.pop() ?? 'library';
  const registry = (parts.pop() ?? ownLibrary).toLowerCase();

  if (/(^|[:-])cloud$/i.test(tag)) return { problem: `model "${text}" would run in the cloud; prompts never leave this machine` };
  if (!modelOrTag.test(model) || model.length > partCharsMax)
    return { problem: `"${model}" is not a model name: at most ${partCharsMax} letters, digits, ".", "_", "-"` };
  if (!modelOrTag.test(tag) || tag.length > partCharsMax) return { problem: `"${tag}" is not a tag: at most ${partCharsMax} letters, digits, ".", "_", "-"` };
  // Ollama reads `:local` as a source, not as a tag, so such a name would never appear in its lists.
  if (/^local$/i.test(tag)) return { problem: `"${tag}" cannot be a tag, since Ollama gives it another meaning` };
  if (!namespace.test(space) || space.length > partCharsMax)
    return { problem: `"${space}" is not a namespace: at most ${partCharsMax} letters, digits, "_", "-"` };
  if (!host.test(registry)) return { problem: `"${registry}" is not a registry host` };
  if (!registries.includes(registry)) return { problem: `registry "${registry}" is not allowed; allowed are ${registries.join(', ')}` };

  if (registry !== ownLibrary) return { name: `${registry}/${space}/${model}:${tag}` };
  const short = space.toLowerCase() === 'library' ? model : `${space}/${model}`;
  return { name: `${short.toLowerCase()}:${tag}` };
}

/** Whether two names, each as a server or a person writes it, mean one model: a missing tag is `latest`, and case does not count, as in Ollama's own look-up. */
export function sameModel(a: string, b: string): boolean {
  return comparable(a) === comparable(b);
}

/** The host and port of a normalised name whose registry is on this machine's loopback, else undefined. Only such a registry may be asked without TLS. */
export function loopbackRegistry(name: string): string | undefined {
  const parts = name.split('/');
  const registry = parts.length === 3 ? parts[0] : undefined;
  return registry !== undefined && loopbackHost.test(registry) ? registry : undefined;
}

function comparable(name: string): string {
  const short = name
    .toLowerCase()
    .replace(`${ownLibrary}/`, '')
    .replace(/^library\//, '');
  return short.slice(short.lastIndexOf('/') + 1).includes(':') ? short : `${short}:latest`;
}
