import type { JsonObject, JsonValue } from './json.js';

const secretName = /^(.*_)?(password|passwd|secret|token|ticket|authorization|cookie|set-cookie|credentials?)$|api_?key$|x-api-key/i;

/** Whether the value of a field of this name is never to be shown. */
export function isSecretName(name: string): boolean {
  return secretName.test(name);
}

/** Credentials that stand in a text: in a URL, after an authorization scheme. */
export function withoutSecrets(value: string): string {
  return value
    .replaceAll(/([a-z][a-z0-9+.-]{0,20}:\/\/)[^\s/@"'\\]+@/gi, '$1[redacted]@')
    .replaceAll(/([?&#](?:access_token|auth|token|api_?key|key|password|passwd|secret|sig|signature|ticket|x-amz-signature)=)[^&\s#"'\\]+/gi, '$1[redacted]')
    .replaceAll(/\b(Bearer|Basic)\s+[A-Za-z0-9._~+/=-]{8,}/g, '$1 [redacted]')
    .replaceAll(/\borc_[0-9a-f]{12}_[A-Za-z0-9_-]{20,}/g, 'orc_[redacted]')
    .replaceAll(/\b(or[st])_[A-Za-z0-9_-]{43}/g, '$1_[redacted]');
}

/** JSON without its secrets, whole otherwise. */
export function hideSecrets(value: JsonObject): JsonObject {
  return hidden(value) as JsonObject;
}

function hidden(value: JsonValue): JsonValue {
  if (typeof value === 'string') return withoutSecrets(value);
  if (Array.isArray(value)) return value.map(hidden);
  if (typeof value !== 'object' || value === null) return value;
  return Object.fromEntries(Object.entries(value).map(([name, item]) => [name, isSecretName(name) && item !== null ? '[redacted]' : hidden(item)]));
}
