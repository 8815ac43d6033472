import type { ForecastEntry, StoredForecast } from '../contract/forecast.js';
import { needOfKey } from '../contract/queues.js';
import type { ModelTimelineView } from '../contract/schemas/model-timeline.js';
import { readParts } from '../db/health.js';
import { type HostStep, readHostSteps, readResidencySpans, type ResidencySpan } from '../db/residency-history.js';
import { type Caller, ownerOf } from './caller.js';
import type { ServiceDeps } from './deps.js';
import type { ReadForecast } from './forecasts.js';

export interface TimelineRequest {
  /** minutes, 1 to 1,440 */
  readonly pastMinutes: number;
  /** minutes, 0 to 1,440 */
  readonly aheadMinutes: number;
}

type Held = ModelTimelineView['held'][number];
type TimelineStep = ModelTimelineView['steps'][number];

/** Steps of the forecast that a look ahead shows at most, the soonest. */
const aheadMax = 500;

/** What hosts held, hold and are predicted to hold, with the steps on it. Of other people's steps a caller sees when and on which model. */
export function modelTimelineUseCase({ sql }: ServiceDeps, forecastNow: ReadForecast) {
  return async (caller: Caller, { pastMinutes, aheadMinutes }: TimelineRequest): Promise<ModelTimelineView> => {
    const now = new Date();
    const since = new Date(now.getTime() - pastMinutes * 60_000);
    const until = new Date(now.getTime() + aheadMinutes * 60_000);
    const [spans, steps, forecast, { hosts }] = await Promise.all([readResidencySpans(sql, since), readHostSteps(sql, since), forecastNow(), readParts(sql)]);
    const owner = ownerOf(caller);
    const ahead = plannedSteps(forecast, now, until);
    return {
      from: since.toISOString(),
      now: now.toISOString(),
      until: until.toISOString(),
      held: [...spans.map(heldOf), ...plannedSpans(ahead, spans, new Map(hosts.map(({ id, modelsMax }) => [id, modelsMax])))],
      steps: [...steps.map((step) => stepOf(step, owner)), ...ahead.map((step) => plannedView(step))],
    };
  };
}

function heldOf({ host, model, state, beganAt, endedAt }: ResidencySpan): Held {
  return { host, model, state, from: beganAt.toISOString(), until: endedAt?.toISOString() ?? null };
}

function stepOf({ host, taskId, name, userId, step, model, status, startedAt, endedAt }: HostStep, owner: string | null): TimelineStep {
  const mine = owner === null || userId === owner;
  const times = { from: startedAt.toISOString(), until: endedAt?.toISOString() ?? null };
  return { host, model: model ?? '', status, ...times, ...(mine ? { task_id: taskId, name, step } : { task_id: null, name: null, step: null }) };
}

interface PlannedStep {
  readonly host: string;
  readonly model: string;
  readonly fromMs: number;
  readonly untilMs: number;
}

/** Steps that are predicted to start on a host by a moment, the soonest first. */
export function plannedSteps(forecast: StoredForecast | null, now: Date, until: Date): PlannedStep[] {
  if (forecast === null) return [];
  const madeAtMs = forecast.madeAt.getTime();
  return forecast.entries
    .flatMap((entry) => plannedStep(entry, madeAtMs, now.getTime()))
    .filter(({ fromMs }) => fromMs < until.getTime())
    .sort((a, b) => a.fromMs - b.fromMs)
    .slice(0, aheadMax);
}

function plannedStep({ position, host, key, start_ms: start, finish_ms: finish }: ForecastEntry, madeAtMs: number, nowMs: number): PlannedStep[] {
  if (position === null || host === null || key === null || start === null || finish === null) return [];
  const fromMs = Math.max(nowMs, madeAtMs + start);
  return [{ host, model: needOfKey(key)?.name ?? key, fromMs, untilMs: Math.max(fromMs, madeAtMs + finish) }];
}

interface Planned {
  readonly model: string;
  readonly fromMs: number;
  untilMs: number;
}

/**
 * What hosts will hold: a model from its first planned step until the host needs the room for another, which is as soon as it would hold more models than it
 * may; the one that is used up first goes. What is served now goes on (`kept`) until then.
 * @param modelsMax models that a host holds at the same time; of a host that is not named, one
 */
export function plannedSpans(
  steps: readonly PlannedStep[],
  present: readonly Pick<ResidencySpan, 'host' | 'model' | 'state' | 'endedAt'>[],
  modelsMax: ReadonlyMap<string, number>,
): Held[] {
  const open = new Map<string, Planned[]>();
  const held = new Set(present.filter(({ endedAt, state }) => endedAt === null && state !== 'draining').map(({ host, model }) => `${host} ${model}`));
  const spans: Held[] = [];
  const close = (host: string, { model, fromMs, untilMs }: Planned) => {
    const state = held.delete(`${host} ${model}`) ? 'kept' : 'planned';
    spans.push({ host, model, state, from: new Date(fromMs).toISOString(), until: new Date(untilMs).toISOString() });
  };
  for (const { host, model, fromMs, untilMs } of steps) {
    const present = open.get(host) ?? [];
    open.set(host, present);
    const same = present.find((span) => span.model === model);
    if (same !== undefined) {
      same.untilMs = Math.max(same.untilMs, untilMs);
      continue;
    }
    if (present.length >= (modelsMax.get(host) ?? 1)) {
      present.sort((a, b) => a.untilMs - b.untilMs);
      const gone = present.shift();
      if (gone !== undefined) close(host, gone);
    }
    present.push({ model, fromMs, untilMs });
  }
  for (const [host, rest] of open) for (const span of rest) close(host, span);
  return spans.sort((a, b) => (a.from < b.from ? -1 : 1));
}

function plannedView({ host, model, fromMs, untilMs }: PlannedStep): TimelineStep {
  return {
    host,
    model,
    status: 'planned',
    from: new Date(fromMs).toISOString(),
    until: new Date(untilMs).toISOString(),
    task_id: null,
    name: null,
    step: null,
  };
}
