import { expect, test } from 'vitest';
import { isStorableTime } from '../../../contract/schemas/time.js';

test.each([
  ['0001-01-01T00:00:00Z', true],
  ['0001-01-01T14:00:00+14:00', true],
  ['0001-01-01T13:59:59+14:00', false],
  ['0001-01-01T00:00:00-14:00', true],
  ['0000-12-31T23:59:59Z', false],
  ['2026-01-09T10:30Z', true],
  ['9999-12-31T23:59:59.999999999Z', true],
  ['9999-12-31T23:59:59.999+00:01', true],
  ['9999-12-31T23:59-00:01', false],
  ['9999-12-31T09:59:59-14:00', true],
  ['9999-12-31T10:00:00-14:00', false],
  ['9999-12-30T23:59:59-14:00', true],
])('%s is within the years 1 to 9999 in UTC: %s', (text, storable) => {
  expect(isStorableTime(text)).toBe(storable);
  const year = new Date(text).getUTCFullYear();
  expect(year >= 1 && year <= 9_999).toBe(storable);
});
