import { z } from '@hono/zod-openapi';

const valuesMax = 100;

/** A parameter that may come several times; the query gives one value as a text, several as an array. */
export function repeatable<S extends z.ZodType>(item: S, description: string) {
  const { $schema: _, ...items } = z.toJSONSchema(item, { io: 'input' });
  return z
    .preprocess((value) => (typeof value === 'string' ? [value] : value), z.array(item).max(valuesMax).default([]))
    .meta({ description, type: 'array', items, maxItems: valuesMax });
}

/** A whole number as a query writes it: digits, nothing else. */
export function wholeNumber(min: number, max: number) {
  const text = `a whole number from ${min} to ${max}`;
  return z
    .string()
    .regex(/^\d{1,9}$/, { error: text })
    .transform(Number)
    .refine((value) => value >= min && value <= max, { error: text })
    .meta({ type: 'integer', minimum: min, maximum: max });
}
