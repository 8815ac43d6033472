import type { ModelTimelineView } from '../../contract/schemas/model-timeline.js';

/** Lengths are pixels of a drawing of `width`; it is scaled to the room there is. */
export interface TimelineDrawing {
  readonly width: number;
  readonly height: number;
  /** where now is */
  readonly nowX: number;
  readonly ticks: readonly { readonly x: number; readonly label: string; readonly anchor: 'middle' | 'end' }[];
  readonly hosts: readonly { readonly host: string; readonly y: number }[];
  readonly lanes: readonly {
    readonly model: string;
    /** as much of the name as there is room for */
    readonly label: string;
    readonly y: number;
    readonly held: readonly Bar[];
    readonly steps: readonly (Bar & { readonly taskId: string | null })[];
  }[];
}

interface Bar {
  readonly x: number;
  readonly width: number;
  /** state or status: a class of the style */
  readonly kind: string;
  /** what it is, in words */
  readonly title: string;
}

const drawnWidth = 1_200;
const labelsWidth = 190;
const labelChars = 24;
const axisHeight = 24;
const hostHeight = 26;
const laneHeight = 26;
/** Lanes of one host that are drawn at most: those held now first, then the latest. */
const lanesMax = 16;
const tickSteps = [1, 2, 5, 10, 15, 30, 60, 120, 240, 480].map((minutes) => minutes * 60_000);

/** Where everything of a timeline is drawn: a group for each host, a lane for each of its models, a bar for each stretch and each step. */
export function drawTimeline(timeline: ModelTimelineView, hosts: readonly string[]): TimelineDrawing {
  const [fromMs, nowMs, untilMs] = [timeline.from, timeline.now, timeline.until].map((at) => Date.parse(at)) as [number, number, number];
  const scale = (drawnWidth - labelsWidth) / Math.max(1, untilMs - fromMs);
  const xOf = (ms: number) => round(labelsWidth + (Math.min(untilMs, Math.max(fromMs, ms)) - fromMs) * scale);
  const barOf = ({ from, until }: { readonly from: string; readonly until: string | null }) => {
    const x = xOf(Date.parse(from));
    return { x, width: Math.max(1.5, round(xOf(until === null ? nowMs : Date.parse(until)) - x)) };
  };

  let y = axisHeight;
  const lanes: TimelineDrawing['lanes'][number][] = [];
  const groups = [...new Set([...hosts, ...timeline.held.map(({ host }) => host)])].map((host) => {
    const group = { host, y };
    y += hostHeight;
    for (const model of lanesOf(timeline, host)) {
      lanes.push({
        model,
        label: model.length > labelChars ? `${model.slice(0, labelChars - 1)}…` : model,
        y,
        held: timeline.held
          .filter((span) => span.host === host && span.model === model)
          .map((span) => ({ ...barOf(span), kind: span.state, title: `${model}: ${words[span.state]}, ${lasting(span, nowMs)}` })),
        steps: timeline.steps
          .filter((step) => step.host === host && step.model === model)
          .map((step) => ({
            ...barOf(step),
            kind: step.status,
            taskId: step.task_id,
            title: `${step.name ?? 'a task'}: ${step.status}, ${lasting(step, nowMs)}`,
          })),
      });
      y += laneHeight;
    }
    return group;
  });
  return { width: drawnWidth, height: y + 6, nowX: xOf(nowMs), ticks: ticksOf(fromMs, untilMs, nowMs, xOf), hosts: groups, lanes };
}

const words = { loading: 'is loaded', serving: 'serves', draining: 'drains', kept: 'is predicted to stay', planned: 'is predicted to be loaded' } as const;

function lanesOf(timeline: ModelTimelineView, host: string): string[] {
  const latest = new Map<string, string>();
  for (const { host: of, model, until } of timeline.held) {
    if (of !== host) continue;
    const at = until ?? '9';
    if (at > (latest.get(model) ?? '')) latest.set(model, at);
  }
  return [...latest]
    .sort(([a, one], [b, other]) => (one === other ? (a < b ? -1 : 1) : one > other ? -1 : 1))
    .slice(0, lanesMax)
    .map(([model]) => model);
}

function ticksOf(fromMs: number, untilMs: number, nowMs: number, xOf: (ms: number) => number) {
  const step = tickSteps.find((each) => (untilMs - fromMs) / each <= 12) ?? 480 * 60_000;
  const ticks = [];
  for (let at = nowMs - Math.floor((nowMs - fromMs) / step) * step; at <= untilMs; at += step) {
    const minutes = Math.round((at - nowMs) / 60_000);
    const x = xOf(at);
    ticks.push({
      x,
      anchor: x > drawnWidth - 20 ? ('end' as const) : ('middle' as const),
      label: minutes === 0 ? 'now' : `${minutes > 0 ? '+' : '−'}${Math.abs(minutes) % 60 === 0 ? `${Math.abs(minutes) / 60} h` : `${Math.abs(minutes)} min`}`,
    });
  }
  return ticks;
}

function lasting({ from, until }: { readonly from: string; readonly until: string | null }, nowMs: number): string {
  const seconds = ((until === null ? nowMs : Date.parse(until)) - Date.parse(from)) / 1_000;
  return `${seconds < 10 ? seconds.toFixed(1) : Math.round(seconds)} s`;
}

const round = (value: number) => Math.round(value * 10) / 10;
