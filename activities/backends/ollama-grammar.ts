import type { JsonObject, JsonValue } from '../../contract/json.js';

/**
 * What of a JSON Schema is sent to Ollama, which makes a grammar of it that steers the answer. Its converter knows some keywords only, and what it
 * does not expect is not refused but ends a process: in 0.24.0 the pattern `^(?:a)$` ends the whole server, `^\d+$` or a length above 2000
 * the runner, and 2,000 optional fields take it 20 s. So only what is known to be safe goes there. Nothing is lost:
 * whoever asks checks the answer against the whole schema.
 * @returns `json` when nothing useful is left, or the grammar would be too large
 */
export function steeringSchema(schema: JsonObject): 'json' | JsonObject {
  const walk = new Walk();
  const steering = walk.schema(schema, 0);
  if (walk.grammarChars > grammarCharsMax || isAnything(steering)) return 'json';
  if (walk.grammarChars <= grammarCharsPlain) return steering;
  // The server cuts the grammar off at four times the length of the schema, and a grammar that is cut ends the runner. A comment makes room.
  return { ...steering, $comment: ' '.repeat(grammarBytesMax / 4) };
}

/** Of a repetition; and of all of one schema together, since the server writes each of them out. */
const repetitionMax = 1_000;
const repetitionsMax = 20_000;
/** The time for a grammar grows with the square of these. */
const optionalFieldsMax = 200;
/** The server's own bounds: at least this much room, and never more than that. */
const grammarCharsPlain = 32_000;
const grammarBytesMax = 1024 * 1024;
const grammarCharsMax = 900_000;

/** Every kind of value; an empty schema would mean an object to the server. */
const anything = ['string', 'number', 'boolean', 'null', 'object', 'array'];

class Walk {
  /** an upper bound of the grammar's length */
  grammarChars = 0;
  private repetitions = 0;

  /** @param nameChars length of the names above, of which the server makes the names of its rules */
  schema(schema: JsonObject, nameChars: number): JsonObject {
    this.grammarChars += 300 + 8 * nameChars;
    const steering: JsonObject = {};
    for (const [keyword, value] of Object.entries(schema)) {
      const kept = this.keyword(keyword, value, schema, nameChars);
      if (kept !== undefined) steering[keyword] = kept;
    }
    const says = ['type', 'enum', 'const', 'anyOf', 'oneOf', 'allOf', '$ref', 'properties', 'items', 'prefixItems', 'pattern'];
    return says.some((keyword) => keyword in steering) ? steering : { ...steering, type: anything };
  }

  private keyword(keyword: string, value: JsonValue, schema: JsonObject, nameChars: number): JsonValue | undefined {
    switch (keyword) {
      case 'type':
      case 'required':
        return value;
      case 'enum':
      case 'const':
        this.grammarChars += 4 * JSON.stringify(value).length;
        return value;
      case '$ref':
        return value;
      case 'format':
        return ['date', 'time', 'date-time', 'uuid'].includes(String(value)) ? value : undefined;
      case 'pattern':
        return typeof value === 'string' && isPlainPattern(value) ? value : undefined;
      case 'minimum':
      case 'maximum':
      case 'exclusiveMinimum':
      case 'exclusiveMaximum':
        return Number.isSafeInteger(value) ? value : undefined;
      case 'minLength':
      case 'maxLength':
      case 'minItems':
      case 'maxItems':
        return this.repetition(value);
      case 'anyOf':
      case 'oneOf':
      case 'allOf':
      case 'prefixItems':
        return Array.isArray(value) ? value.map((each, index) => this.inner(each, nameChars + String(index).length) ?? { type: anything }) : undefined;
      case 'items':
        return Array.isArray(value) ? undefined : this.inner(value, nameChars + 4);
      case 'additionalProperties':
        return value === false ? false : this.inner(value, nameChars + 10);
      case 'properties':
        return this.fields(value, schema['required'], nameChars);
      case '$defs':
      case 'definitions':
        return this.fields(value, undefined, nameChars);
      default:
        return undefined;
    }
  }

  private inner(value: JsonValue, nameChars: number): JsonObject | undefined {
    if (value === true) return this.schema({}, nameChars);
    return isObject(value) ? this.schema(value, nameChars) : undefined;
  }

  private fields(value: JsonValue, required: JsonValue | undefined, nameChars: number): JsonObject | undefined {
    if (!isObject(value)) return undefined;
    const names = Object.keys(value);
    const needed = new Set(Array.isArray(required) ? required : []);
    if (Array.isArray(required) || required === undefined) {
      const optional = names.filter((name) => !needed.has(name)).length;
      if (optional > optionalFieldsMax) this.grammarChars = Number.POSITIVE_INFINITY;
    }
    const kept: [string, JsonValue][] = [];
    for (const [name, inner] of Object.entries(value)) {
      const steering = this.inner(inner, nameChars + JSON.stringify(name).length);
      if (steering !== undefined) kept.push([name, steering]);
    }
    return Object.fromEntries(kept);
  }

  private repetition(value: JsonValue): JsonValue | undefined {
    if (typeof value !== 'number' || value > repetitionMax || this.repetitions + value > repetitionsMax) return undefined;
    this.repetitions += value;
    return value;
  }
}

/** Letters, digits and simple sets of them, repeated a few times, from the beginning to the end. */
function isPlainPattern(pattern: string): boolean {
  return /^\^(?:(?:[A-Za-z0-9 _:,@/-]|\[[A-Za-z0-9 _:,@/-]+\])(?:[*+?]|\{\d{1,3}(?:,\d{0,3})?\})?){1,50}\$$/.test(pattern);
}

function isAnything(schema: JsonObject): boolean {
  return schema['type'] === anything;
}

function isObject(value: JsonValue | undefined): value is JsonObject {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
