import { needOfKey } from '../contract/queues.js';
import { durationOf, type StepKind } from '../scheduling/durations.js';
import type { StretchOf } from '../scheduling/forecast.js';
import type { LineState, StepState, TaskState } from '../scheduling/line-state.js';
import type { Slices } from '../scheduling/slices.js';
import { unstretched } from '../scheduling/spread.js';
import { stretchId } from '../scheduling/stretches.js';
import type { Learned } from './durations.js';
import type { ForecastInput, ForecastRow, PlanOutline } from './forecasts.js';

/** Tasks in a slice of work. */
const sliceTasks = 250;
/** From the end of a step to the start of the next one in its slot, as measured; in milliseconds. */
export const handoverMs = 40;

/** By how much intervals are stretched, from how predictions have held. */
export function stretchesOf({ stretches }: Learned): StretchOf {
  return (kind, level, aheadMs) => stretches.get(stretchId(kind, level, aheadMs)) ?? unstretched;
}

/** What was read of the line and of the tasks in it. */
export interface LineReading {
  readonly input: ForecastInput;
  readonly outlines: ReadonlyMap<string, PlanOutline>;
  /** steps that have ended, by task */
  readonly done: ReadonlyMap<string, ReadonlySet<string>>;
  readonly learned: Learned;
}

/** Ids of the tasks of which a step is in the line, or which are between two steps. */
export function tasksIn({ rows, between }: ForecastInput): Set<string> {
  return new Set([...rows, ...between].map(({ id }) => id));
}

/** Those of the tasks whose plan has several steps, so that some may have ended. */
export function ofSeveralSteps(ids: ReadonlySet<string>, outlines: ReadonlyMap<string, PlanOutline>): string[] {
  return [...ids].filter((id) => (outlines.get(id)?.steps.length ?? 0) > 1);
}

/** The line as the forecast takes it, from what was read. */
export function* lineStateOf({ input, outlines, done, learned }: LineReading): Slices<LineState> {
  const duration = durationsOf(learned);
  const rows = new Map<string, ForecastRow[]>();
  for (const row of input.rows) {
    const group = rows.get(row.id);
    if (group === undefined) rows.set(row.id, [row]);
    else group.push(row);
  }
  const parents = new Map<string, string[]>();
  const blocked = new Set<string>();
  for (const [child, parent, failed] of input.dependencies) {
    parents.set(child, [...(parents.get(child) ?? []), parent]);
    if (failed) blocked.add(child);
  }
  const owners = new Map(input.rights);
  const needs = new Map(input.needs);
  const parts = new Map(input.held);
  const pausedModels = new Set(input.pausedModels);
  const tasks: TaskState[] = [];

  const addTask = (id: string, live: readonly ForecastRow[], task: Pick<TaskState, 'level' | 'exact' | 'place'>, held: boolean) => {
    const outline = outlines.get(id);
    const kindOf = (step: string, type: string, key: string | null): StepKind => ({
      template: outline?.template ?? '',
      step,
      type,
      model: key === null ? null : (needOfKey(key)?.name ?? key),
    });
    const typeOf = (step: string) => outline?.steps.find((each) => each.id === step)?.type ?? '';
    const steps = live.map((row): StepState => {
      const { step, pool, key } = row;
      const paused = input.paused || (key !== null && pausedModels.has(needOfKey(key)?.name ?? key));
      const heldBy = row.held ? 'held' : blocked.has(id) ? 'blocked' : paused ? 'paused' : row.lack === 'never' ? 'waiting_resource' : null;
      const lacks = row.lack === null ? null : row.lack === 'lock' ? 'waiting_lock' : 'waiting_resource';
      const now: StepState['now'] =
        row.state === 'waiting'
          ? { state: 'waiting', waitedMs: row.waitedMs, dueInMs: row.dueInMs, continues: row.continues, heldBy, lacks }
          : { state: 'running', host: row.host ?? 'general', ranMs: row.ranMs };
      return { step, pool, key, duration: duration(kindOf(step, typeOf(step), key)), now };
    });
    const later = outline === undefined ? [] : laterSteps(outline, live, done.get(id) ?? new Set(), (step, type, key) => duration(kindOf(step, type, key)));
    if (!held) steps.push(...later);
    const locks = new Set(live.flatMap((row) => row.locks));
    tasks.push({
      id,
      ...task,
      steps,
      after: parents.get(id) ?? [],
      rights: [...locks].map((name) => ({ name, has: owners.get(name) === id })),
      needs: needs.get(id) ?? null,
      held: held && later.length > 0 && live.some(({ state }) => state !== 'waiting') ? {} : (parts.get(id) ?? {}), // one that is held keeps what it has
    });
  };

  for (const [id, live] of rows) {
    if (tasks.length % sliceTasks === sliceTasks - 1) yield;
    const [first] = live;
    if (first !== undefined)
      addTask(
        id,
        live,
        first,
        live.some((row) => row.held),
      );
  }
  for (const [index, { id, level, exact, held }] of input.between.entries()) addTask(id, [], { level, exact, place: input.rows.length + index }, held);
  const { generalSlots, hosts, residency, openOrders, costs, backingOff, pools, paused } = input;
  return { tasks, generalSlots, hosts, residency, openOrders, costs, backingOff, pools, paused };
}

/** What is expected of steps; steps of one kind are looked up once. */
function durationsOf({ durations }: Learned): (kind: StepKind) => StepState['duration'] {
  const known = new Map<string, StepState['duration']>();
  return (kind) => {
    const id = `${kind.template} ${kind.step} ${kind.type} ${kind.model}`;
    const duration = known.get(id) ?? durationOf(kind, (group) => durations.get(group));
    known.set(id, duration);
    return duration;
  };
}

/** Steps of a plan that have neither ended nor entered the line. One that was passed over, since a step behind it did, is skipped. */
function laterSteps(
  { steps }: PlanOutline,
  live: readonly ForecastRow[],
  done: ReadonlySet<string>,
  duration: (step: string, type: string, key: string | null) => StepState['duration'],
): StepState[] {
  const reached = new Set([...done, ...live.map((row) => row.step)]);
  const passed = new Set<string>();
  for (const step of [...steps].reverse()) if (reached.has(step.id) || passed.has(step.id)) for (const need of step.needs) passed.add(need);
  return steps
    .filter(({ id }) => !reached.has(id) && !passed.has(id))
    .map(({ id, type, key, needs }) => ({
      step: id,
      pool: key === null ? 'general' : 'model',
      key,
      duration: duration(id, type, key),
      now: { state: 'later', needs: needs.filter((need) => !done.has(need)) },
    }));
}
