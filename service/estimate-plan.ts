import { setTimeout as delay } from 'node:timers/promises';
import type { ForecastEntry } from '../contract/forecast.js';
import type { Needs } from '../contract/holds.js';
import type { JsonObject } from '../contract/json.js';
import type { Plan, PlanStep } from '../contract/plan.js';
import { exactOfLevel } from '../contract/priority.js';
import { residencyKey } from '../contract/queues.js';
import type { Sql } from '../db/connect.js';
import { type Learned, readLearned } from '../db/durations.js';
import { type ForecastInput, readDoneSteps, readForecastInput, readKeyCosts, readPlanOutlines, readRequiredAmounts } from '../db/forecasts.js';
import { handoverMs, lineStateOf, ofSeveralSteps, stretchesOf, tasksIn } from '../db/line-state.js';
import { inSlices } from '../in-slices.js';
import { durationOf, isLearned } from '../scheduling/durations.js';
import { forecastInSlices } from '../scheduling/forecast.js';
import { shortageOf } from '../scheduling/holds.js';
import type { LineState, StepState, TaskState } from '../scheduling/line-state.js';
import { planDuration } from '../scheduling/plan-duration.js';
import { type Interval, intervalOf, type LogNormal, spreadOf } from '../scheduling/spread.js';
import { defaultMaxWaitsMs } from '../scheduling/waiting-order.js';

/** A task that is not there yet. */
export interface PlannedTask {
  readonly plan: Plan;
  /** 1 to 10 */
  readonly level: number;
  /** ids of tasks that have to complete first */
  readonly dependsOn: readonly string[];
  readonly locks: readonly string[];
  /** what the request says that it needs; undefined: nothing */
  readonly requirements: JsonObject | undefined;
}

/** What is expected of a task if it came now; null where nothing is known or nothing can be told. Milliseconds, moments from now. */
export interface PlanEstimate {
  /** of each step by its id */
  readonly steps: ReadonlyMap<string, Interval | null>;
  /** of the whole, while nothing keeps it waiting */
  readonly duration: Interval | null;
  /** of its first step in the line */
  readonly first: Pick<ForecastEntry, 'position' | 'why'>;
  readonly start: Interval | null;
  readonly end: Interval | null;
}

/** Stands for the id of the task that is not there. */
const newId = 'new';

interface Expected {
  readonly step: PlanStep;
  readonly duration: LogNormal;
  readonly known: boolean;
}

/** Longer than this nobody waits for the forecast of a long line; what is told without it is the durations. */
const forecastWaitMs = 5_000;
/** Forecasts under way and waiting at the same time. */
const forecastsMax = 4;

/**
 * Estimates what a plan takes by what steps like its own took, and when it would start and end by a forecast of the line with the task at its place. Forecasts
 * are made one at a time in each process, since each is of the whole line; where that takes too long or too many wait, start and end are null. Reads.
 */
export function planEstimator(sql: Sql): (task: PlannedTask) => Promise<PlanEstimate> {
  let last: Promise<unknown> = Promise.resolve();
  let open = 0;

  /** @returns null: there is no time for it */
  async function forecast(task: PlannedTask, expected: readonly Expected[], learned: Learned): Promise<readonly ForecastEntry[] | null> {
    if (open >= forecastsMax) return null;
    open += 1;
    const next = last.then(() => forecastWith(sql, task, expected, learned)).finally(() => (open -= 1));
    last = next.catch(() => {});
    return Promise.race([next, delay(forecastWaitMs, null, { ref: false })]);
  }

  return async (task) => {
    const learned = await readLearned(sql);
    const expected = task.plan.steps.map((step) => expectedOf(task.plan.template, step, learned));
    const entries = (await forecast(task, expected, learned)) ?? [];
    const [first] = [...entries].sort((a, b) => (a.start_ms ?? Infinity) - (b.start_ms ?? Infinity));
    const allKnown = expected.every((each) => each.known);
    return {
      steps: new Map(expected.map((each) => [each.step.id, each.known ? intervalOf(spreadOf(each.duration)) : null])),
      duration: allKnown ? intervalOf(planDuration(expected.map(({ step: { id, needs }, duration }) => ({ id, needs, duration })))) : null,
      first: { position: first?.position ?? null, why: first?.why ?? null },
      start: first === undefined ? null : interval(first.start_ms, first.start_low_ms, first.start_high_ms),
      end: first === undefined || !allKnown ? null : interval(first.done_ms, first.done_low_ms, first.done_high_ms),
    };
  };
}

/** What a forecast of the line with the task in it says of the task's own steps. */
async function forecastWith(sql: Sql, task: PlannedTask, expected: readonly Expected[], learned: Learned): Promise<ForecastEntry[]> {
  const amounts = task.requirements === undefined ? {} : await readRequiredAmounts(sql, task.requirements);
  const input = await readForecastInput(sql, { pools: Object.keys(amounts).length > 0 });
  const ids = tasksIn(input);
  const keys = task.plan.steps.flatMap(({ model }) => (model === undefined ? [] : [residencyKey(model)]));
  const [outlines, costs] = await Promise.all([readPlanOutlines(sql, [...ids]), readKeyCosts(sql, [...new Set(keys)])]);
  const byId = new Map(outlines.map((outline) => [outline.id, outline]));
  const done = await readDoneSteps(sql, ofSeveralSteps(ids, byId));
  const line = await inSlices(lineStateOf({ input, outlines: byId, done, learned }));
  const known = new Set(line.costs.map(({ host, key }) => `${host} ${key}`));
  const state: LineState = {
    ...line,
    tasks: [...line.tasks, newTask(task, amounts, expected, line, input)],
    costs: [...line.costs, ...costs.filter(({ host, key }) => !known.has(`${host} ${key}`))],
  };
  const { entries } = await inSlices(forecastInSlices(state, { maxWaitsMs: defaultMaxWaitsMs, handoverMs, stretch: stretchesOf(learned) }));
  return entries.filter(({ task_id: id }) => id === newId);
}

function expectedOf(template: string, step: PlanStep, { durations }: Learned): Expected {
  const kind = { template, step: step.id, type: step.type, model: step.model?.name ?? null };
  const statsOf = (group: string) => durations.get(group);
  return { step, duration: durationOf(kind, statsOf), known: isLearned(kind, statsOf) };
}

/** The task as the last one that came. */
function newTask(
  { plan, level, dependsOn, locks }: PlannedTask,
  amounts: Needs['amounts'],
  expected: readonly Expected[],
  line: LineState,
  { rights, pausedModels }: Pick<ForecastInput, 'rights' | 'pausedModels'>,
): TaskState {
  const taken = new Set(rights.map(([name]) => name));
  const short = line.pools === null ? null : shortageOf({ locks: [], pools: line.pools }, { locks: [], amounts });
  const lacks = locks.some((name) => taken.has(name)) ? 'waiting_lock' : short === null ? null : 'waiting_resource';
  return {
    id: newId,
    level,
    exact: exactOfLevel(level),
    place: 1 + line.tasks.reduce((most, { place }) => Math.max(most, place), plan.steps.length),
    after: dependsOn,
    rights: locks.map((name) => ({ name, has: false })),
    needs: Object.keys(amounts).length === 0 ? null : amounts,
    steps: expected.map(({ step, duration }): StepState => {
      const key = step.model === undefined ? null : residencyKey(step.model);
      const heldBy = line.paused || (step.model !== undefined && pausedModels.includes(step.model.name)) ? 'paused' : null;
      const first: StepState['now'] = { state: 'waiting', waitedMs: 0, dueInMs: dependsOn.length > 0 ? null : 0, continues: false, heldBy, lacks };
      return { step: step.id, pool: step.pool, key, duration, now: step.needs.length === 0 ? first : { state: 'later', needs: step.needs } };
    }),
  };
}

function interval(middleMs: number | null, lowMs: number | null, highMs: number | null): Interval | null {
  return middleMs === null || lowMs === null || highMs === null ? null : { middleMs, lowMs, highMs };
}
