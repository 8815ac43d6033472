import { runInNewContext } from 'node:vm';
import { type OutputUnit, type Schema, type SchemaDraft, Validator } from '@cfworker/json-schema';
import type { JsonObject, JsonValue } from '../../contract/json.js';

/** Time for one check. Wall time, so generous to a busy machine; a pattern such as `^(a+)+$` takes for ever on some texts. */
const checkMsMax = 500;
const answerDepthMax = 64;
const faultsShownMax = 20;
const faultCharsMax = 300;

export type CheckedAnswer = { readonly json: JsonValue } | { readonly faults: readonly string[] };

/**
 * The JSON of an answer that was asked for with a format, checked against it: a server's constrained decoding gives JSON, but knows only
 * some of a schema's keywords.
 * @param format `json`, or a schema without {@link schemaFaults}
 * @param cutOff the answer ended by its token limit
 */
export function checkAnswer(text: string, format: 'json' | JsonObject, cutOff: boolean): CheckedAnswer {
  let json: JsonValue;
  try {
    json = JSON.parse(text) as JsonValue;
  } catch {
    return { faults: [cutOff ? 'the answer is not JSON: it was cut off by its token limit' : 'the answer is not JSON'] };
  }
  if (deeperThan(json, answerDepthMax)) return { faults: [`the answer is nested more than ${answerDepthMax} deep`] };
  const faults = format === 'json' ? [] : againstSchema(json, format);
  return faults.length === 0 ? { json } : { faults };
}

function againstSchema(json: JsonValue, schema: JsonObject): readonly string[] {
  // The validator notes addresses in the schema that it gets. A schema of our own stands for itself, so its id names nothing.
  const { $schema, $id: _id, id: _oldId, ...own } = structuredClone(schema);
  try {
    const validator = new Validator(own as Schema, draftOf($schema, own), false);
    // The time limit ends whatever runs meanwhile, here too: a pattern, references that multiply, a comparison of each item with each other.
    const { errors } = runInNewContext('check()', { check: () => validator.validate(json) }, { timeout: checkMsMax }) as { errors: OutputUnit[] };
    return faultsOf(errors);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ERR_SCRIPT_EXECUTION_TIMEOUT') return [`the check against the schema took more than ${checkMsMax} ms`];
    // References that lead in a circle exhaust the stack.
    return [error instanceof RangeError ? 'the check against the schema does not end' : 'the schema cannot be checked'];
  }
}

/** Without a word of its own a schema is of the newest draft, unless it writes tuples as older ones did. */
function draftOf(named: JsonValue | undefined, schema: JsonObject): SchemaDraft {
  if (typeof named === 'string') {
    if (named.includes('draft-04')) return '4';
    if (/draft-0[67]/.test(named)) return '7';
    if (named.includes('2019-09')) return '2019-09';
  }
  return Array.isArray(schema['items']) ? '7' : '2020-12';
}

/** Keywords whose own message says only that something below them does not fit. */
const wrappers = new Set([
  '$ref',
  'properties',
  'patternProperties',
  'items',
  'prefixItems',
  'allOf',
  'dependentSchemas',
  'additionalProperties',
  'if',
  'then',
  'else',
]);

function faultsOf(errors: readonly OutputUnit[]): readonly string[] {
  const telling = errors.filter(({ keyword }) => !wrappers.has(keyword));
  const faults = [
    ...new Set(
      (telling.length > 0 ? telling : errors).map(
        ({ instanceLocation, keyword, error }) => `${placeOf(instanceLocation)}: ${keyword === 'false' ? 'is not allowed' : shortened(error)}`,
      ),
    ),
  ];
  return faults.length > faultsShownMax ? [...faults.slice(0, faultsShownMax), `${faults.length - faultsShownMax} more faults`] : faults;
}

/** `#/items/0/name` as `items.0.name`. */
function placeOf(pointer: string): string {
  const path = pointer.slice(2);
  return path === '' ? 'the whole answer' : shortened(path.replaceAll('/', '.').replaceAll('~1', '/').replaceAll('~0', '~'));
}

function shortened(text: string): string {
  return text.length > faultCharsMax ? `${text.slice(0, faultCharsMax)}...` : text;
}

/** Without recursion, since depth is what it asks for. */
function deeperThan(value: JsonValue, depthMax: number): boolean {
  const open: { value: JsonValue; depth: number }[] = [{ value, depth: 1 }];
  for (let item = open.pop(); item !== undefined; item = open.pop()) {
    if (typeof item.value !== 'object' || item.value === null) continue;
    if (item.depth > depthMax) return true;
    for (const inner of Object.values(item.value)) open.push({ value: inner, depth: item.depth + 1 });
  }
  return false;
}
