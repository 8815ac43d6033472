import type { ExecutionView } from '../../contract/schemas/execution.js';
import type { StepTryView, TaskStepView } from '../../contract/schemas/task-steps.js';
import { duration } from '../format.js';

/** What a stretch of time of a step went to. `other`: what its inferences do not account for. */
export type PhaseKind = 'wait' | 'load' | 'prompt' | 'generate' | 'run' | 'other';

export interface Phase {
  readonly kind: PhaseKind;
  /** milliseconds since 1970 */
  readonly fromMs: number;
  readonly toMs: number;
}

/** A phase as it is drawn, in percent of the width. */
export interface Bar {
  readonly kind: PhaseKind;
  readonly x: number;
  readonly width: number;
  readonly label: string;
}

export interface DrawnTry {
  readonly view: StepTryView;
  readonly execution: ExecutionView | null;
  /** how long each kind of phase took in all; in the order in which they come */
  readonly took: readonly { readonly kind: PhaseKind; readonly label: string; readonly text: string }[];
  readonly bars: readonly Bar[];
}

export interface Waterfall {
  readonly fromMs: number;
  readonly toMs: number;
  /** places, in percent, at which a long wait is drawn shorter than it was */
  readonly cuts: readonly number[];
  /** by step, in the order of the plan; steps without a try have none */
  readonly steps: ReadonlyMap<string, readonly DrawnTry[]>;
}

export const phaseLabels: Readonly<Record<PhaseKind, string>> = {
  wait: 'waited',
  load: 'model load',
  prompt: 'prompt',
  generate: 'generated',
  run: 'ran',
  other: 'other',
};

/** The tries of one attempt on one scale of time; null when there are none yet. */
export function waterfallOf(steps: readonly TaskStepView[], executions: readonly ExecutionView[], attempt: number, nowMs: number): Waterfall | null {
  const byId = new Map(executions.map((execution) => [execution.id, execution]));
  const rows = steps.map((step) => ({
    id: step.id,
    tries: step.tries
      .filter((each) => each.attempt === attempt)
      .map((view) => {
        const execution = view.execution_id === null ? null : (byId.get(view.execution_id) ?? null);
        return { view, execution, phases: phasesOf(view, execution, nowMs, step.pool === 'model') };
      }),
  }));
  const phases = rows.flatMap(({ tries }) => tries.flatMap((each) => each.phases));
  if (phases.length === 0) return null;
  const fromMs = Math.min(...phases.map((phase) => phase.fromMs));
  const toMs = Math.max(...phases.map((phase) => phase.toMs));
  const scale = timeScale(
    phases.filter(({ kind }) => kind !== 'wait').map((phase) => [phase.fromMs, phase.toMs]),
    fromMs,
    toMs,
  );
  const drawn = rows.map(
    ({ id, tries }) => [id, tries.map(({ view, execution, phases: own }) => ({ view, execution, took: tookOf(own), bars: barsOf(own, scale) }))] as const,
  );
  return { fromMs, toMs, cuts: scale.cuts, steps: new Map(drawn) };
}

/**
 * What one try spent its time on, in order; what has not ended goes on until now.
 * @param withModel a step that runs reads its prompt until it writes, and its model server tells the times only at its end
 */
export function phasesOf(view: StepTryView, execution: ExecutionView | null, nowMs: number, withModel = false): Phase[] {
  const at = (text: string | null) => (text === null ? null : Date.parse(text));
  const [entered, started, ended] = [at(view.entered_at), at(view.started_at), at(view.ended_at)];
  const phases: Phase[] = [];
  if (entered !== null) {
    const until = started ?? ended ?? nowMs;
    const load = view.model_load;
    const loadFrom = load === null ? until : Math.min(Math.max(Date.parse(load.started_at), entered), until);
    const loadTo = load === null ? until : Math.min(at(load.ended_at) ?? until, until);
    phases.push(
      { kind: 'wait', fromMs: entered, toMs: loadFrom },
      { kind: 'load', fromMs: loadFrom, toMs: loadTo },
      { kind: 'wait', fromMs: loadTo, toMs: until },
    );
  }
  if (started !== null && withModel && view.state === 'running') {
    const wrote = Math.min(Math.max(at(view.first_output_at) ?? nowMs, started), nowMs);
    phases.push({ kind: 'prompt', fromMs: started, toMs: wrote }, { kind: 'generate', fromMs: wrote, toMs: nowMs });
  } else if (started !== null) phases.push(...runOf(started, ended ?? nowMs, execution?.metrics ?? {}));
  return phases.filter((phase) => phase.toMs > phase.fromMs);
}

function runOf(fromMs: number, toMs: number, metrics: ExecutionView['metrics']): Phase[] {
  const number = (name: string) => (typeof metrics[name] === 'number' && metrics[name] > 0 ? metrics[name] : 0);
  const parts = [
    ['load', number('load_duration_ms')],
    ['prompt', number('prompt_eval_duration_ms')],
    ['generate', number('eval_duration_ms')],
  ] as const;
  const told = parts.reduce((sum, [, ms]) => sum + ms, 0);
  if (told === 0) return [{ kind: 'run', fromMs, toMs }];
  // Inferences are timed by the model server, whose sum may be a little more than the whole by our clock.
  const scale = Math.min(1, (toMs - fromMs) / told);
  const phases: Phase[] = [];
  let last = fromMs;
  for (const [kind, ms] of parts) {
    phases.push({ kind, fromMs: last, toMs: last + ms * scale });
    last += ms * scale;
  }
  return [...phases, { kind: 'other', fromMs: last, toMs }];
}

function tookOf(phases: readonly Phase[]): DrawnTry['took'] {
  const sums = new Map<PhaseKind, number>();
  for (const { kind, fromMs, toMs } of phases) sums.set(kind, (sums.get(kind) ?? 0) + toMs - fromMs);
  return [...sums].map(([kind, ms]) => ({ kind, label: phaseLabels[kind], text: spanText(ms) }));
}

/** Steps without a model often take a few milliseconds, which would be no seconds at all. */
const spanText = (ms: number) => (ms < 100 ? `${Math.max(1, Math.round(ms))} ms` : duration(ms));

/** The least width of a bar that is seen, in percent. */
const widthMin = 0.35;

function barsOf(phases: readonly Phase[], scale: TimeScale): Bar[] {
  return phases.map(({ kind, fromMs, toMs }) => {
    const x = scale.at(fromMs);
    const width = Math.max(widthMin, scale.at(toMs) - x);
    return { kind, x: rounded(Math.min(x, 100 - width)), width: rounded(width), label: phaseLabels[kind] };
  });
}

const rounded = (percent: number) => Math.round(percent * 100) / 100;

export interface TimeScale {
  /** percent of the width, 0 to 100 */
  at(ms: number): number;
  /** in percent */
  readonly cuts: readonly number[];
}

/**
 * A scale on which what happened can be seen however long it was waited for: a stretch in which nothing but waiting happened takes at most half as much
 * room as all that happened.
 * @param busy stretches in which something happened, in any order; they may overlap
 */
export function timeScale(busy: readonly (readonly [fromMs: number, toMs: number])[], fromMs: number, toMs: number): TimeScale {
  const stretches = stretchesOf(busy, fromMs, toMs);
  const busyMs = stretches.reduce((sum, each) => sum + (each.busy ? each.toMs - each.fromMs : 0), 0);
  const idleMax = busyMs > 0 ? busyMs / 2 : Number.POSITIVE_INFINITY;
  let room = 0;
  const drawn = stretches.map((each) => {
    const ms = each.toMs - each.fromMs;
    const long = !each.busy && ms > idleMax;
    const start = room;
    room += long ? idleMax : ms;
    return { ...each, start, end: room, long };
  });
  const percent = (place: number) => (room === 0 ? 0 : (100 * place) / room);
  return {
    at(ms) {
      const found = drawn.find((each) => ms <= each.toMs) ?? drawn.at(-1);
      if (found === undefined) return 0;
      const share = found.toMs === found.fromMs ? 1 : Math.min(1, Math.max(0, (ms - found.fromMs) / (found.toMs - found.fromMs)));
      return percent(found.start + share * (found.end - found.start));
    },
    cuts: drawn.filter(({ long }) => long).map(({ start, end }) => rounded(percent((start + end) / 2))),
  };
}

/** The whole time as stretches in which something happened, and those between. */
function stretchesOf(
  busy: readonly (readonly [number, number])[],
  fromMs: number,
  toMs: number,
): { readonly busy: boolean; readonly fromMs: number; readonly toMs: number }[] {
  const stretches: { busy: boolean; fromMs: number; toMs: number }[] = [];
  let last = fromMs;
  for (const [from, to] of [...busy].sort((a, b) => a[0] - b[0])) {
    if (to <= last) continue;
    if (from > last) stretches.push({ busy: false, fromMs: last, toMs: from });
    stretches.push({ busy: true, fromMs: Math.max(from, last), toMs: to });
    last = to;
  }
  if (last < toMs) stretches.push({ busy: false, fromMs: last, toMs });
  return stretches;
}
