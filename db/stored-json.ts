import type { JsonValue } from '../contract/json.js';
import type { Sql, TransactionSql } from './connect.js';

type Parameter = ReturnType<Sql['json']>;

/**
 * A value as a parameter of type jsonb. Characters that PostgreSQL cannot store (NUL, halves of surrogate pairs) become U+FFFD,
 * since the output of a program or a model may hold them and its result shall not be lost for that.
 */
export function storedJson(sql: Sql | TransactionSql, value: unknown): Parameter {
  const text = JSON.stringify(value);
  // A first, cheap look: JSON.stringify writes exactly these characters as escapes.
  const storable = /\\u(0000|d[89a-f])/.test(text) ? mend(JSON.parse(text) as JsonValue) : value;
  return sql.json(storable as Parameters<Sql['json']>[0]);
}

/** A text that PostgreSQL can store. */
export function storedText(text: string): string {
  return text.replace(/[\0\p{Surrogate}]/gu, '\u{fffd}');
}

function mend(value: JsonValue): JsonValue {
  if (typeof value === 'string') return storedText(value);
  if (Array.isArray(value)) return value.map(mend);
  if (value === null || typeof value !== 'object') return value;
  return Object.fromEntries(Object.entries(value).map(([name, field]) => [storedText(name), mend(field)]));
}
