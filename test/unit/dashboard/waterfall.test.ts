import fc from 'fast-check';
import { expect, test } from 'vitest';
import type { ExecutionView } from '../../../contract/schemas/execution.js';
import type { StepTryView, TaskStepView } from '../../../contract/schemas/task-steps.js';
import { phasesOf, timeScale, waterfallOf } from '../../../dashboard/drawings/waterfall.js';

const zero = Date.UTC(2026, 0, 9, 10);
const at = (seconds: number) => new Date(zero + seconds * 1_000).toISOString();

function tryView(fields: Partial<StepTryView>): StepTryView {
  return {
    attempt: 1,
    step_attempt: 1,
    try: 1,
    state: 'completed',
    host: 'local',
    entered_at: null,
    granted_at: null,
    started_at: null,
    ended_at: null,
    first_output_at: null,
    model_load: null,
    cause: null,
    execution_id: null,
    ...fields,
  };
}
const withMetrics = (metrics: ExecutionView['metrics']) => ({ metrics }) as ExecutionView;
const seconds = (view: StepTryView, execution: ExecutionView | null = null, nowSeconds = 100, withModel = false) =>
  phasesOf(view, execution, zero + nowSeconds * 1_000, withModel).map(({ kind, fromMs, toMs }) => [kind, (fromMs - zero) / 1_000, (toMs - zero) / 1_000]);

test('the time of a try is told as wait, load of its model, prompt, generation and the rest [DASH-18]', () => {
  const view = tryView({ entered_at: at(0), started_at: at(30), ended_at: at(40), model_load: { started_at: at(20), ended_at: at(29) } });
  expect(seconds(view, withMetrics({ load_duration_ms: 500, prompt_eval_duration_ms: 1_500, eval_duration_ms: 6_000 }))).toEqual([
    ['wait', 0, 20],
    ['load', 20, 29],
    ['wait', 29, 30],
    ['load', 30, 30.5],
    ['prompt', 30.5, 32],
    ['generate', 32, 38],
    ['other', 38, 40],
  ]);
});

test('what has not ended goes on until now, and a try whose wait is not known has none [DASH-18]', () => {
  expect(seconds(tryView({ entered_at: at(10), state: 'waiting', model_load: { started_at: at(40), ended_at: null } }))).toEqual([
    ['wait', 10, 40],
    ['load', 40, 100],
  ]);
  expect(seconds(tryView({ started_at: at(90), state: 'running' }))).toEqual([['run', 90, 100]]);
  expect(seconds(tryView({ entered_at: at(10), ended_at: at(15), state: 'cancelled' }))).toEqual([['wait', 10, 15]]);
});

test('a step with a model that runs reads its prompt until it writes, and generates from then on [DASH-18]', () => {
  const running = { entered_at: at(0), started_at: at(30), state: 'running', model_load: { started_at: at(20), ended_at: at(29) } } as const;
  const before = [
    ['wait', 0, 20],
    ['load', 20, 29],
    ['wait', 29, 30],
  ];
  expect(seconds(tryView(running), null, 35, true)).toEqual([...before, ['prompt', 30, 35]]);
  expect(seconds(tryView({ ...running, first_output_at: at(34) }), null, 50, true)).toEqual([...before, ['prompt', 30, 34], ['generate', 34, 50]]);
});

test('phases that the model server timed as longer than the whole are drawn within it [DASH-18]', () => {
  const view = tryView({ started_at: at(0), ended_at: at(1) });
  expect(seconds(view, withMetrics({ prompt_eval_duration_ms: 1_000, eval_duration_ms: 3_000 }))).toEqual([
    ['prompt', 0, 0.25],
    ['generate', 0.25, 1],
  ]);
});

test('a long wait takes at most half as much room as what happened, and is marked [DASH-18]', () => {
  const scale = timeScale([[3_600_000, 3_610_000]], 0, 3_610_000);
  expect(scale.at(3_600_000)).toBeCloseTo(100 / 3);
  expect(scale.at(3_605_000)).toBeCloseTo(100 / 3 + 100 / 3);
  expect(scale.cuts).toHaveLength(1);
  expect(timeScale([[1_000, 9_000]], 0, 10_000).cuts).toEqual([]);
  expect(timeScale([], 0, 10_000).at(5_000)).toBe(50);
});

test('a scale keeps the order of times and stays within its width', () => {
  const stretch = fc.tuple(fc.integer({ min: 0, max: 1_000_000 }), fc.integer({ min: 0, max: 50_000 })).map(([from, ms]) => [from, from + ms] as const);
  fc.assert(
    fc.property(fc.array(stretch, { minLength: 1, maxLength: 12 }), fc.array(fc.integer({ min: 0, max: 1_000_000 }), { minLength: 2 }), (busy, times) => {
      const [from, to] = [Math.min(...busy.map(([start]) => start)), Math.max(...busy.map(([, end]) => end))];
      const scale = timeScale(busy, from, to);
      const places = [...times].sort((a, b) => a - b).map((ms) => scale.at(ms));
      for (const [index, place] of places.entries()) {
        expect(place).toBeGreaterThanOrEqual(index === 0 ? 0 : (places[index - 1] ?? 0) - 1e-9);
        expect(place).toBeLessThanOrEqual(100 + 1e-9);
      }
    }),
    {
      examples: [
        [
          [
            [0, 0],
            [1, 1],
          ],
          [1, 0, 2],
        ],
      ],
    },
  );
});

test('tries of one attempt share a scale; another attempt is another drawing, and without a try there is none', () => {
  const step = (id: string, tries: StepTryView[]) => ({ id, tries }) as TaskStepView;
  const steps = [
    step('one', [
      tryView({ started_at: at(0), ended_at: at(5), state: 'failed', execution_id: 'x' }),
      tryView({ attempt: 2, started_at: at(50), ended_at: at(60) }),
    ]),
    step('two', [tryView({ started_at: at(5), ended_at: at(10) })]),
    step('three', []),
  ];
  const execution = { id: 'x', metrics: {} } as unknown as ExecutionView;
  const first = waterfallOf(steps, [execution], 1, zero);
  expect(first?.steps.get('one')).toMatchObject([{ execution, bars: [{ kind: 'run', x: 0, width: 50 }], took: [{ kind: 'run', text: '5.0 s' }] }]);
  expect(first?.steps.get('two')).toMatchObject([{ bars: [{ kind: 'run', x: 50, width: 50 }] }]);
  expect(first?.steps.get('three')).toEqual([]);
  expect(waterfallOf(steps, [], 2, zero)?.steps.get('one')).toHaveLength(1);
  expect(waterfallOf(steps, [], 3, zero)).toBeNull();
});
