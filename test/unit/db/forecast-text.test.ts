import fc from 'fast-check';
import { expect, test } from 'vitest';
import { type ForecastEntry, forecastReasons } from '../../../contract/forecast.js';
import { entriesOfText, textOfEntries } from '../../../db/forecast-text.js';

const ms = fc.option(fc.integer({ min: -1_000_000, max: 1_000_000_000 }));
const anyEntry: fc.Arbitrary<ForecastEntry> = fc
  .record({
    task_id: fc.uuid(),
    step: fc.string({ unit: 'binary' }),
    key: fc.option(fc.string()),
    host: fc.option(fc.constantFrom('general', 'gpu-1', 'gpu-2')),
    position: fc.option(fc.nat()),
    start_ms: ms,
    start_low_ms: ms,
    start_high_ms: ms,
    finish_ms: ms,
    finish_low_ms: ms,
    finish_high_ms: ms,
    done_ms: ms,
    done_low_ms: ms,
    done_high_ms: ms,
    why: fc.option(fc.constantFrom(...forecastReasons)),
    other: fc.option(fc.string()),
    left_ms: ms,
    last: fc.boolean(),
  })
  .map(({ last, ...entry }) => ({
    ...entry,
    pool: entry.key === null ? 'general' : 'model',
    ...(last ? { finish_ms: entry.done_ms, finish_low_ms: entry.done_low_ms, finish_high_ms: entry.done_high_ms } : {}),
  }));

test('a forecast comes out of its text as it went in', () => {
  fc.assert(
    fc.property(fc.array(anyEntry, { maxLength: 20 }), (entries) => {
      const text = textOfEntries(entries);
      expect(entriesOfText(text)).toEqual(entries);
      expect(text).not.toContain('\0'); // PostgreSQL stores it
    }),
  );
});
