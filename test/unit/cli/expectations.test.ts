import { expect, test } from 'vitest';
import { expectations } from '../../../cli/commands/submit.js';

const now = Date.parse('2026-01-09T10:30:00Z');
const preview = {
  estimated_duration_seconds: 12,
  estimated_duration_interval: [8, 70] as [number, number],
  queue_position: 3,
  estimated_start_time: '2026-01-09T10:30:40.000Z',
  waits_for: 'behind' as const,
};
type Preview = Parameters<typeof expectations>[0];

test('a dry run tells what the task takes and when it would start, or that it cannot be told and why [MGR-10]', () => {
  expect(expectations(preview as Preview, now)).toEqual([
    'takes: about 12 s, 8 s to 1 min 10 s in 80 of 100 cases',
    'would start: 2026-01-09 10:30:40Z (in 40 s), at place 3 of what waits',
  ]);
  const unknown = {
    ...preview,
    estimated_duration_seconds: null,
    estimated_duration_interval: null,
    estimated_start_time: null,
    queue_position: null,
    waits_for: 'no_host',
  };
  expect(expectations(unknown as Preview, now)).toEqual([
    'takes: not known, since not all of its steps have run here before',
    'would start: cannot be told (no_host)',
  ]);
});
