import type { JsonObject, JsonValue } from '../../contract/json.js';

/** Bounds of a JSON Schema that an answer has to follow. */
export const schemaCharsMax = 65_536;
export const schemaDepthMax = 32;
/** Of one regular expression: it is read before there is a time limit, and a long one takes long. */
export const patternCharsMax = 500;
const faultsShownMax = 20;

const types = ['array', 'boolean', 'integer', 'null', 'number', 'object', 'string'];

/** What the value of each keyword has to be. Keywords that are not here say nothing about an answer, as JSON Schema has it. */
const keywords: Readonly<Record<string, Kind>> = {
  ...kinds('schema', 'additionalItems', 'additionalProperties', 'contains', 'else', 'if', 'not', 'propertyNames', 'then', 'unevaluatedItems'),
  ...kinds('schema', 'unevaluatedProperties'),
  ...kinds('schema or list of schemas', 'items'),
  ...kinds('list of schemas', 'allOf', 'anyOf', 'oneOf', 'prefixItems'),
  ...kinds('object of schemas', '$defs', 'definitions', 'dependentSchemas', 'properties', 'patternProperties'),
  ...kinds('whole number, 0 or more', 'maxContains', 'maxItems', 'maxLength', 'maxProperties', 'minContains', 'minItems', 'minLength', 'minProperties'),
  ...kinds('number', 'maximum', 'minimum'),
  ...kinds('number or boolean', 'exclusiveMaximum', 'exclusiveMinimum'),
  ...kinds('number above 0', 'multipleOf'),
  ...kinds('boolean', 'uniqueItems'),
  ...kinds('list of names', 'required'),
  ...kinds('list of values, at least one', 'enum'),
  ...kinds('type', 'type'),
  ...kinds('regular expression of at most 500 characters', 'pattern'),
  ...kinds('place in this schema, such as #/$defs/name', '$ref'),
  ...kinds('unsupported', '$dynamicRef', '$recursiveRef', '$dynamicAnchor', '$recursiveAnchor', '$anchor', 'dependencies'),
};

type Kind =
  | 'schema'
  | 'schema or list of schemas'
  | 'list of schemas'
  | 'object of schemas'
  | 'whole number, 0 or more'
  | 'number'
  | 'number or boolean'
  | 'number above 0'
  | 'boolean'
  | 'list of names'
  | 'list of values, at least one'
  | 'type'
  | 'regular expression of at most 500 characters'
  | 'place in this schema, such as #/$defs/name'
  | 'unsupported';

function kinds(kind: Kind, ...names: readonly string[]): Record<string, Kind> {
  return Object.fromEntries(names.map((name) => [name, kind]));
}

export interface SchemaFault {
  /** keys and indexes down to the place in the schema */
  readonly path: readonly string[];
  readonly text: string;
}

/**
 * What is wrong with a JSON Schema in itself; empty when nothing is.
 * A reference may name a place in the schema only: nothing is ever fetched. The walk is bounded and without recursion.
 */
export function schemaFaults(schema: JsonObject): SchemaFault[] {
  const size = sizeFault(schema);
  if (size !== null) return [{ path: [], text: size }];
  const faults: SchemaFault[] = [];
  const fault = (path: readonly string[], text: string) => faults.push({ path, text });
  const places = new Set<string>();
  const references: { readonly path: readonly string[]; readonly to: string }[] = [];
  const open: { readonly value: JsonValue; readonly path: readonly string[] }[] = [{ value: schema, path: [] }];
  for (let item = open.pop(); item !== undefined; item = open.pop()) {
    const { value, path } = item;
    places.add(pointerOf(path));
    if (typeof value === 'boolean') continue;
    if (!isObject(value)) {
      fault(path, 'expected a schema, which is an object or a boolean');
      continue;
    }
    if (path.length > 0 && typeof value['$id'] === 'string') fault([...path, '$id'], 'a schema inside another may have no $id');
    for (const [name, inner] of Object.entries(value)) {
      const kind = Object.hasOwn(keywords, name) ? keywords[name] : undefined;
      const place = [...path, name];
      if (kind === undefined) continue;
      if (kind === 'unsupported') fault(place, `${name} is not supported`);
      else if (!isOfKind(kind, inner)) fault(place, `expected ${kind}`);
      else if (name === '$ref') references.push({ path: place, to: inner as string });
      else if (kind === 'schema') open.push({ value: inner, path: place });
      else if (kind === 'object of schemas') {
        for (const [key, each] of Object.entries(inner as JsonObject)) {
          if (name === 'patternProperties' && !isPattern(key))
            fault([...place, key.slice(0, patternCharsMax)], `its name is not a regular expression of at most ${patternCharsMax} characters`);
          open.push({ value: each, path: [...place, key] });
        }
      } else if (kind.endsWith('list of schemas')) {
        if (Array.isArray(inner)) for (const [index, each] of inner.entries()) open.push({ value: each, path: [...place, String(index)] });
        else open.push({ value: inner, path: place });
      }
    }
  }
  for (const { path, to } of references) if (!places.has(decodedPointer(to))) fault(path, `${JSON.stringify(to.slice(0, 200))} names no schema here`);
  return faults.slice(0, faultsShownMax);
}

function sizeFault(schema: JsonObject): string | null {
  // Depth first: what is too deep cannot be written as text.
  const open: { value: JsonValue; depth: number }[] = [{ value: schema, depth: 1 }];
  for (let item = open.pop(); item !== undefined; item = open.pop()) {
    const { value, depth } = item;
    if (typeof value !== 'object' || value === null) continue;
    if (depth > schemaDepthMax) return `a JSON Schema may be nested at most ${schemaDepthMax} deep`;
    for (const inner of Object.values(value)) open.push({ value: inner, depth: depth + 1 });
  }
  const characters = JSON.stringify(schema).length;
  return characters > schemaCharsMax ? `a JSON Schema may have at most ${schemaCharsMax} characters, this one has ${characters}` : null;
}

function isOfKind(kind: Kind, value: JsonValue): boolean {
  switch (kind) {
    case 'schema':
      return true; // looked at in its turn
    case 'schema or list of schemas':
      return true;
    case 'list of schemas':
      return Array.isArray(value) && value.length > 0;
    case 'object of schemas':
      return isObject(value);
    case 'whole number, 0 or more':
      return Number.isSafeInteger(value) && Number(value) >= 0;
    case 'number':
      return typeof value === 'number';
    case 'number or boolean':
      return typeof value === 'number' || typeof value === 'boolean';
    case 'number above 0':
      return typeof value === 'number' && value > 0;
    case 'boolean':
      return typeof value === 'boolean';
    case 'list of names':
      return Array.isArray(value) && value.every((each) => typeof each === 'string');
    case 'list of values, at least one':
      return Array.isArray(value) && value.length > 0;
    case 'type':
      return Array.isArray(value) ? value.length > 0 && value.every(isType) : isType(value);
    case 'regular expression of at most 500 characters':
      return typeof value === 'string' && isPattern(value);
    case 'place in this schema, such as #/$defs/name':
      return typeof value === 'string' && /^#(\/|$)/.test(value);
    case 'unsupported':
      return false;
  }
}

function isType(value: JsonValue): boolean {
  return typeof value === 'string' && types.includes(value);
}

function isPattern(text: string): boolean {
  if (text.length > patternCharsMax) return false;
  try {
    new RegExp(text, 'u');
    return true;
  } catch {
    return false;
  }
}

function isObject(value: JsonValue): value is JsonObject {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

/** @see https://www.rfc-editor.org/rfc/rfc6901 */
function pointerOf(path: readonly string[]): string {
  return ['#', ...path.map((name) => name.replaceAll('~', '~0').replaceAll('/', '~1'))].join('/');
}

/** A pointer in a URI may have percent signs. */
function decodedPointer(reference: string): string {
  try {
    return decodeURIComponent(reference);
  } catch {
    return reference;
  }
}
