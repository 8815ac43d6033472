import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { needOfKey } from '../../../contract/queues.js';
import { forecastLine } from '../../../scheduling/forecast.js';
import type { LineState, StepState } from '../../../scheduling/line-state.js';
import { priorityAffinity } from '../../../scheduling/priority-affinity.js';
import { simulateLine } from '../../../scheduling/simulate-line.js';
import { defaultMaxWaitsMs } from '../../../scheduling/waiting-order.js';
import { emptyLine, keyOf, laterStep, oneHost, replayLine, runningStep, type Started, taskState, waitingStep } from '../../support/line-states.js';

const policy = priorityAffinity();
const settings = { maxWaitsMs: defaultMaxWaitsMs, handoverMs: 0 };
const names = ['a', 'b', 'c', 'd', 'e'];

function startsOf(state: LineState): Started[] {
  const { startOf } = simulateLine(state, settings);
  return state.tasks
    .flatMap((task, taskIndex) =>
      task.steps.flatMap((step, stepIndex) => {
        const start = startOf(taskIndex, stepIndex);
        return start === undefined || step.now.state === 'running'
          ? []
          : [{ order: start.order, atMs: start.start.meanMs, task: task.id, step: step.step, host: start.host, pool: step.pool }];
      }),
    )
    .sort((a, b) => a.order - b.order)
    .map(({ order: _order, ...started }) => started);
}

const sorted = (starts: readonly Started[]) => [...starts].sort((a, b) => a.atMs - b.atMs || a.task.localeCompare(b.task) || a.step.localeCompare(b.step));

// Odd durations, so that two things happen at the same moment only when one follows from the other.
const anyKey = fc.constantFrom(...names).map(keyOf);
const anyDuration = fc.integer({ min: 100, max: 40_000 }).map((ms) => ms + 0.1234567);
const anyTask = fc.record({
  level: fc.integer({ min: 1, max: 10 }),
  extra: fc.integer({ min: 0, max: 9 }),
  waitedMs: fc.oneof(fc.constant(0), fc.integer({ min: 0, max: 3_000_000 })),
  steps: fc.array(fc.record({ key: fc.option(anyKey, { freq: 4 }), durationMs: anyDuration }), { minLength: 1, maxLength: 3 }),
});
const totals: Readonly<Record<string, number>> = { gpu: 2, cpu: 4 };
const anyAmounts = fc.constantFrom({ gpu: 1 }, { gpu: 2 }, { cpu: 1 }, { cpu: 3 }, { gpu: 1, cpu: 2 });
/** What each of the tasks needs, as far as it needs anything, and running tasks that hold some of it. */
const anyHolds = fc.record({
  needs: fc.array(fc.option(anyAmounts), { minLength: 20, maxLength: 20 }),
  holders: fc.array(fc.record({ held: fc.constantFrom({ gpu: 1 }, { cpu: 2 }), durationMs: anyDuration }), { maxLength: 2 }),
});
const anyState = fc
  .record({
    tasks: fc.array(anyTask, { minLength: 1, maxLength: 20 }),
    hosts: fc.array(
      fc.record({
        parallel: fc.integer({ min: 1, max: 3 }),
        modelsMax: fc.integer({ min: 1, max: 3 }),
        resident: fc.option(anyKey),
        servedMs: fc.integer({ min: 0, max: 60_000 }),
      }),
      {
        minLength: 1,
        maxLength: 3,
      },
    ),
    loads: fc.array(fc.integer({ min: 50, max: 8_000 }), { minLength: names.length, maxLength: names.length }),
    sizes: fc.array(fc.integer({ min: 1, max: 6 }), { minLength: names.length, maxLength: names.length }),
    budget: fc.option(fc.integer({ min: 6, max: 12 })),
    generalSlots: fc.integer({ min: 1, max: 2 }),
  })
  .map(({ tasks, hosts, loads, sizes, budget, generalSlots }): LineState => {
    const made = hosts.map(({ parallel, modelsMax }, index) => ({
      ...oneHost,
      host: `host-${index}`,
      parallel,
      modelsMax,
      roomBytes: budget && budget * 1e9,
      budgetBytes: budget && budget * 1e9,
    }));
    return {
      ...emptyLine,
      generalSlots,
      hosts: made,
      residency: hosts.flatMap(({ resident, servedMs }, index) =>
        resident === null
          ? []
          : [{ host: `host-${index}`, hostEpoch: 1, key: resident, model: needOfKey(resident) as never, state: 'serving' as const, sinceMs: 0, servedMs }],
      ),
      costs: made.flatMap(({ host }) =>
        names.map((name, index) => ({ host, key: keyOf(name), loadMs: (loads[index] as number) + 0.7654321, bytes: (sizes[index] as number) * 1e9 })),
      ),
      tasks: tasks.map(({ level, extra, waitedMs, steps }, place) => {
        const made: StepState[] = steps.map(({ key, durationMs }, index) =>
          index === 0 ? waitingStep('s0', key, durationMs, { waitedMs }) : laterStep(`s${index}`, key, durationMs, [`s${index - 1}`]),
        );
        return taskState(place, made, { level, exact: level * 10 - extra });
      }),
    };
  });

/** The same line where tasks need parts of pools. */
function withHolds(state: LineState, { needs, holders }: typeof anyHolds extends fc.Arbitrary<infer T> ? T : never): LineState {
  const running = holders.map(({ held, durationMs }, index) =>
    taskState(state.tasks.length + index, [runningStep('held', null, durationMs, 'general')], { held }),
  );
  const heldOf = (pool: string) => running.reduce((sum, { held }) => sum + (held?.[pool] ?? 0), 0);
  return {
    ...state,
    pools: Object.entries(totals).map(([pool, total]) => ({ pool, total, free: total - heldOf(pool) })),
    tasks: [
      ...state.tasks.map((task, index) => {
        const amounts = needs[index] ?? null;
        return amounts === null ? task : { ...task, needs: amounts };
      }),
      ...running,
    ],
  };
}

describe('the forecast', () => {
  test.each([
    ['', anyState],
    [', also where tasks need parts of pools', fc.tuple(anyState, anyHolds).map(([state, holds]) => withHolds(state, holds))],
  ])('says the order in which the policy starts steps, each on its host and at its moment, when durations are exact%s [SCHED-04, SCHED-23]', (_, anyLine) => {
    fc.assert(
      fc.property(anyLine, (state) => {
        const expected = replayLine(state, policy);
        const found = startsOf(state);
        expect(sorted(found).map(({ task, step, host }) => `${task} ${step} ${host}`)).toEqual(
          sorted(expected).map(({ task, step, host }) => `${task} ${step} ${host}`),
        );
        const times = new Map(expected.map(({ task, step, atMs }) => [`${task} ${step}`, atMs]));
        for (const { task, step, atMs } of found) expect(Math.abs(atMs - (times.get(`${task} ${step}`) as number))).toBeLessThan(0.01);
      }),
      { numRuns: 200 },
    );
  });

  const [a, b] = [keyOf('a'), keyOf('b')];
  const serving = (key: string, servedMs = 0) => ({
    host: 'local',
    hostEpoch: 1,
    key,
    model: needOfKey(key) as never,
    state: 'serving' as const,
    sinceMs: 0,
    servedMs,
  });
  const costs = [a, b].map((key) => ({ host: 'local', key, loadMs: 2_000, bytes: null }));

  test('counts those that wait from 1, tells why each waits, and how long the model in the way has left [PRED-12, SCHED-02]', () => {
    const { entries } = forecastLine(
      {
        ...emptyLine,
        costs,
        residency: [serving(a, 8_000)],
        tasks: [
          taskState(0, [runningStep('s', a, 10_000, 'local', 4_000)]),
          taskState(1, [waitingStep('s', b, 5_000)]),
          taskState(2, [waitingStep('s', a, 20_000)]),
          taskState(3, [waitingStep('s', a, 20_000)]),
          taskState(4, [waitingStep('s', null, 1_000)]),
        ],
      },
      settings,
    );
    // The load of a has bought 38 s, of which 30 are left: b comes when they are over.
    expect(
      entries.map(({ task_id: task, position, start_ms: start, finish_ms: finish, why }) => [
        task,
        position,
        start && Math.round(start / 1_000),
        finish && Math.round(finish / 1_000),
        why,
      ]),
    ).toEqual([
      ['task 0', null, -4, 6, null],
      ['task 4', 1, 0, 1, 'waiting_slot'],
      ['task 2', 2, 6, 26, 'waiting_slot'],
      ['task 3', 3, 26, 46, 'waiting_slot'],
      ['task 1', 4, 48, 53, 'quantum'],
    ]);
    expect(entries.at(-1)).toMatchObject({ other: a, left_ms: 30_000, host: 'local' });
  });

  test('a task ends with its last step, and what waits for it starts then [TASK-04, SCHED-07]', () => {
    const { entries } = forecastLine(
      {
        ...emptyLine,
        costs,
        residency: [serving(a)],
        tasks: [
          taskState(0, [waitingStep('one', a, 10_000), laterStep('two', null, 5_000, ['one']), laterStep('three', a, 10_000, ['two'])]),
          taskState(1, [waitingStep('s', a, 1_000, { dueInMs: null })], { after: ['task 0'] }),
        ],
      },
      settings,
    );
    expect(entries).toMatchObject([
      { task_id: 'task 0', step: 'one', finish_ms: 10_000, done_ms: 25_000 },
      { task_id: 'task 1', position: 2, start_ms: 25_000, done_ms: 26_000, why: 'waiting_dependency' },
    ]);
  });

  test('says nothing of what a person holds, what is blocked, what no host can run, and what waits for such [SCHED-08]', () => {
    const held = { heldBy: 'held' as const };
    const { entries } = forecastLine(
      {
        ...emptyLine,
        hosts: [],
        tasks: [
          taskState(0, [waitingStep('s', null, 1_000, held)]),
          taskState(1, [waitingStep('s', null, 1_000, { dueInMs: null, heldBy: 'blocked' })]),
          taskState(2, [waitingStep('s', a, 1_000)]),
          taskState(3, [waitingStep('s', null, 1_000, { dueInMs: null })], { after: ['task 0'] }),
        ],
      },
      settings,
    );
    expect(entries.map(({ why, start_ms: start, done_ms: done, position }) => [why, start, done, position])).toEqual([
      ['held', null, null, null],
      ['blocked', null, null, null],
      ['no_host', null, null, null],
      ['waiting_dependency', null, null, null],
    ]);
  });

  test('tasks that need the same right run one after the other [SCHED-19]', () => {
    const rights = [{ name: 'agent:x', has: false }];
    const { entries } = forecastLine(
      {
        ...emptyLine,
        generalSlots: 4,
        tasks: [
          taskState(0, [runningStep('s', null, 3_000, 'general')], { rights: [{ name: 'agent:x', has: true }] }),
          taskState(1, [waitingStep('s', null, 2_000)], { rights }),
          taskState(2, [waitingStep('s', null, 2_000)], { rights, level: 9, exact: 90 }),
          taskState(3, [waitingStep('s', null, 2_000)]),
        ],
      },
      settings,
    );
    expect(entries.slice(1).map(({ task_id: task, start_ms: start, why }) => [task, start && Math.round(start / 100), why])).toEqual([
      ['task 3', 0, 'waiting_slot'],
      ['task 2', 30, 'waiting_lock'],
      ['task 1', 50, 'waiting_lock'],
    ]);
  });

  test('what the first one that lacks something has reserved is kept from later ones, and nothing else is [SCHED-23]', () => {
    const needs = (amounts: Record<string, number>) => ({ needs: amounts });
    const lacks = 'waiting_resource';
    const { entries } = forecastLine(
      {
        ...emptyLine,
        hosts: [],
        generalSlots: 9,
        pools: [
          { pool: 'gpu', total: 2, free: 1 },
          { pool: 'cpu', total: 8, free: 8 },
        ],
        tasks: [
          taskState(0, [waitingStep('s', keyOf('a'), 1_000, { lacks })], needs({ gpu: 2, cpu: 8 })), // no host serves it: it keeps nothing
          taskState(1, [waitingStep('s', null, 1_000, { lacks })], needs({ gpu: 2, cpu: 4 })),
          taskState(2, [waitingStep('s', null, 1_000)], needs({ gpu: 1 })),
          taskState(3, [waitingStep('s', null, 1_000)], needs({ cpu: 4 })),
          taskState(4, [waitingStep('s', null, 1_000)], needs({ cpu: 5 })),
          taskState(5, [waitingStep('s', null, 1_000)], { ...needs({ gpu: 1 }), level: 6, exact: 60 }),
          taskState(6, [waitingStep('s', null, 1_000)]),
        ],
      },
      settings,
    );
    expect(Object.fromEntries(entries.map(({ task_id: task, why }) => [task, why]))).toEqual({
      'task 0': 'waiting_resource',
      'task 1': 'waiting_resource',
      'task 2': 'reserved',
      'task 3': 'waiting_slot',
      'task 4': 'reserved',
      'task 5': 'waiting_slot',
      'task 6': 'waiting_slot',
    });
  });

  describe('who waits for what', () => {
    const gpus = (free: number) => [{ pool: 'gpu', total: 2, free }];
    const startsIn = (tasks: LineState['tasks'], more: Partial<LineState> = {}) => {
      const { entries } = forecastLine({ ...emptyLine, generalSlots: 9, pools: gpus(1), ...more, tasks }, settings);
      return Object.fromEntries(entries.map(({ task_id: task, start_ms: start, why }) => [task, start === null ? why : Math.round(start / 1_000) + 0]));
    };
    const held = { heldBy: 'held' } as const;
    const lacks = { lacks: 'waiting_resource' } as const;

    test.each([
      [
        'a task that a person holds keeps what it has, and who needs that keeps nothing',
        taskState(0, [waitingStep('s', null, 1_000, held)], { held: { gpu: 1 } }),
        'held',
      ],
      ['one that a person holds while a step of it runs gives nothing back', taskState(0, [runningStep('s', null, 5_000, 'general')], { held: {} }), 0],
    ])('%s [SCHED-22, SCHED-23]', (_, holder, itself) => {
      const large = taskState(1, [waitingStep('s', null, 1_000, lacks)], { needs: { gpu: 2 } });
      const small = taskState(2, [waitingStep('s', null, 1_000)], { needs: { gpu: 1 } });
      const waits = itself === 'held' ? 0 : 'reserved'; // kept for the large one, of which nobody can tell when it starts
      expect(startsIn([holder, large, small])).toEqual({ 'task 0': itself, 'task 1': 'waiting_resource', 'task 2': waits });
    });

    test('one whose model has just failed to load on all hosts keeps nothing until it may be loaded again [SCHED-23]', () => {
      const large = taskState(1, [waitingStep('s', keyOf('a'), 1_000, lacks)], { needs: { gpu: 2 } });
      const small = taskState(2, [waitingStep('s', null, 1_000)], { needs: { gpu: 1 } });
      const running = taskState(0, [runningStep('s', null, 3_000, 'general')], { held: { gpu: 1 } });
      const backingOff = [{ host: 'local', key: keyOf('a'), forMs: 60_000 }];
      expect(startsIn([running, large, small], { backingOff })['task 2']).toBe(0);
      expect(startsIn([running, large, small])['task 2']).toBeGreaterThan(2);
    });

    test('what a task has that gives way is free, and it gets it again in its turn', () => {
      const giving = taskState(1, [waitingStep('s', null, 1_000)], { needs: { gpu: 2 }, held: { gpu: 1 } });
      const first = taskState(0, [waitingStep('s', null, 4_000)], { needs: { gpu: 2 }, level: 9, exact: 90 });
      expect(startsIn([first, giving])).toEqual({ 'task 0': 0, 'task 1': 4 });
    });

    test('of thousands of different needs each is told, and none is taken for more than there is', () => {
      const count = 2_000;
      const tasks = Array.from({ length: count }, (_, place) =>
        taskState(place, [waitingStep('s', null, 1_000)], { needs: { memory: 1 + (place * 63) / count } }),
      );
      const starts = Object.values(startsIn(tasks, { pools: [{ pool: 'memory', total: 64, free: 64 }], generalSlots: 100 }));
      expect(starts.every((start) => typeof start === 'number')).toBe(true);
    });
  });

  test('is the less sure the further it looks, and wider where it was found to be too sure', () => {
    const unsure = { mu: Math.log(10_000), variance: 0.25 };
    const tasks = Array.from({ length: 20 }, (_, place) => taskState(place, [{ ...waitingStep('s', null, 1), duration: unsure }]));
    const width = (entries: ReturnType<typeof forecastLine>['entries']) =>
      entries.map((entry) => (entry.finish_high_ms as number) - (entry.finish_low_ms as number));
    const plain = width(forecastLine({ ...emptyLine, tasks }, settings).entries);
    expect([...plain].sort((x, y) => x - y)).toEqual(plain);
    const wider = width(forecastLine({ ...emptyLine, tasks }, { ...settings, stretch: () => ({ low: 2, high: 2, shift: 0 }) }).entries);
    for (const [index, each] of wider.entries()) expect(each).toBeGreaterThan(1.5 * (plain[index] as number));
  });
});
