import { z } from 'zod';

/** Kinds of values as a file or the environment writes them. Messages tell what was expected, never the value. */

export const text = z.string().min(1);

/** `"false"` is truthy to JavaScript, so booleans are read by hand. */
export const flag = z.union(
  [z.boolean(), z.enum(['true', 'false', '1', '0', 'yes', 'no', 'on', 'off']).transform((word) => ['true', '1', 'yes', 'on'].includes(word))],
  {
    error: 'expected true or false',
  },
);

export const int = (min: number, max: number) =>
  z.union([z.int(), z.string().regex(/^\d+$/, 'expected a whole number').transform(Number)]).pipe(z.int().min(min).max(max));

export const decimal = (min: number, max: number) =>
  z
    .union([
      z.number(),
      z
        .string()
        .regex(/^\d+(\.\d+)?$/, 'expected a number')
        .transform(Number),
    ])
    .pipe(z.number().min(min).max(max));

const units: Readonly<Record<string, number>> = { '': 1, B: 1, KB: 1e3, MB: 1e6, GB: 1e9, KIB: 1024, MIB: 1024 ** 2, GIB: 1024 ** 3 };
/** A number of bytes, or one with a unit: `100MB`, `64MiB`. */
export const bytes = z.union([
  z.int().min(0),
  z
    .string()
    .regex(/^\d+\s*([KMG]I?)?B?$/i, 'expected bytes, such as 1048576, 100MB or 64MiB')
    .transform((size) => {
      const [, number, unit] = /^(\d+)\s*(\w*)$/.exec(size) ?? [];
      return Number(number) * (units[(unit ?? '').toUpperCase()] ?? 1);
    }),
]);

const daysOf: Readonly<Record<string, number>> = { day: 1, week: 7, month: 30, year: 365 };
/** Days, as a number or as `90 days`, `6 months`, `1 year`. */
export const days = z.union([
  z.int().min(1).max(36_500),
  z
    .string()
    .regex(/^\d{1,5}(\s*(day|week|month|year)s?)?$/, 'expected days, such as 90, "90 days", "6 months" or "1 year"')
    .transform((time) => {
      const [, number, unit] = /^(\d+)\s*(day|week|month|year)?/.exec(time) ?? [];
      return Number(number) * (daysOf[unit ?? 'day'] ?? 1);
    })
    .pipe(z.int().min(1).max(36_500)),
]);

/** A YAML list, or a comma-separated text of the environment. */
export const list = <Item extends z.ZodType<unknown, string>>(item: Item) =>
  z
    .union([
      z.array(item),
      z.string().transform((words) =>
        words
          .split(',')
          .map((word) => word.trim())
          .filter((word) => word !== ''),
      ),
    ])
    .pipe(z.array(item));

/** One of some words, in any case. */
export const upperWord = <const Words extends readonly string[]>(words: Words) =>
  z.preprocess((word) => (typeof word === 'string' ? word.toUpperCase() : word), z.enum(words));
