import type { Models, Pauses, QueuePage } from '../client/shapes.js';
import { eachOnce } from '../contract/shared-memory.js';
import { relative, span } from './moments.js';
import { type Column, layOut, type Terminal } from './terminal.js';
import { fit, visibleLine } from './visible.js';

type Entry = QueuePage['items'][number];
type Running = QueuePage['running'][number];

/** When a step is expected to start, with the interval; empty where nothing can be told. */
export const expectedStart = (entry: Entry, nowMs: number): string => {
  if (entry.estimated_start_time === null) return '';
  const [low, high] = entry.estimated_start_interval ?? [];
  const told = Date.parse(entry.estimated_start_time) <= nowMs ? 'now' : relative(entry.estimated_start_time, nowMs);
  if (low === undefined || high === undefined) return told;
  const seconds = (time: string) => Math.max(0, (Date.parse(time) - nowMs) / 1_000);
  return `${told} (${span(Math.round(seconds(low)))} to ${span(Math.round(seconds(high)))})`;
};

/** What waits, one line for each. */
export function queueColumns(nowMs: number): readonly Column<Entry>[] {
  return [
    { title: '#', value: ({ position }) => String(position) },
    { title: 'ID', value: ({ task_id }) => task_id?.slice(0, 8) ?? '-', plain: ({ task_id }) => task_id ?? '' },
    { title: 'P', value: ({ priority }) => String(priority) },
    { title: 'NAME', value: ({ name }) => name ?? 'of another user', plain: ({ name }) => name ?? '', flexible: true },
    { title: 'STEP', value: ({ step }) => step ?? '', flexible: true },
    { title: 'MODEL', value: ({ model }) => model ?? '', flexible: true },
    { title: 'START', value: (entry) => expectedStart(entry, nowMs), plain: ({ estimated_start_time: time }) => time ?? '' },
    {
      title: 'END',
      value: ({ estimated_completion_time: time }) => (time === null ? '' : relative(time, nowMs)),
      plain: ({ estimated_completion_time: time }) => time ?? '',
    },
    { title: 'WHY', value: ({ reason }) => reason?.replace(/^\w+: /, '') ?? '', flexible: true },
  ];
}

/** What is paused, one line for each. */
export function pauseLines(pauses: Pauses['items']): string[] {
  return pauses.map(({ scope, name, by, reason }) => {
    const what = name === null ? 'the queue' : `${scope} ${visibleLine(name)}`;
    return `${what} is paused${by === null ? '' : ` by ${visibleLine(by)}`}${reason === null ? '' : `: ${visibleLine(reason)}`}`;
  });
}

/** What `top` shows. */
export interface Overview {
  readonly queue: QueuePage;
  readonly models: Models;
}

const gb = (bytes: number) => `${(bytes / 1e9).toFixed(1)} GB`;

/**
 * Hosts with their models, what runs, and the head of the queue.
 * @param size of the window; the head of the queue gets what is left of its rows
 */
export function overviewLines(
  { queue, models }: Overview,
  { paint }: Pick<Terminal, 'paint'>,
  size: { readonly columns: number; readonly rows: number },
  nowMs: number,
): string[] {
  const { columns } = size;
  const title = (text: string) => paint('bold', fit(text, columns));
  const lines = [
    title(`${queue.running.length} running, ${queue.total} waiting${queue.made_at === null ? '' : `, forecast ${relative(queue.made_at, nowMs)}`}`),
  ];
  lines.push(...pauseLines(queue.pauses).map((line) => paint('yellow', fit(line, columns))));
  for (const host of [
    ...new Set([...models.hosts.map(({ id }) => id), ...models.items.map((model) => model.host), ...queue.changes.map((change) => change.host)]),
  ].sort())
    lines.push(...hostLines(host));
  if (queue.running.length > 0) lines.push('', title('RUNNING'), ...indented(layOut(runningColumns(nowMs), queue.running, columns - 2, paint)));
  if (queue.items.length > 0) {
    const room = Math.max(3, size.rows - lines.length - 4);
    lines.push('', title('NEXT'), ...indented(layOut(queueColumns(nowMs), queue.items.slice(0, room), columns - 2, paint)));
  }
  return lines;

  function hostLines(host: string): string[] {
    const loaded = models.items.filter((model) => model.host === host && (model.loaded || model.serving));
    const changes = queue.changes.filter((each) => each.host === host).map(changeText);
    const memory = eachOnce(loaded).reduce((sum, { memory_bytes: bytes }) => sum + (bytes ?? 0), 0);
    const idle = models.hosts.find(({ id, ready }) => id === host && !ready);
    const next = changes.length > 0 ? changes : nextOf(host, loaded);
    return [
      '',
      title(`${visibleLine(host)}  ${gb(memory)} in ${loaded.length} ${loaded.length === 1 ? 'model' : 'models'}`),
      ...(idle === undefined ? [] : [paint('yellow', fit(`  takes no work: ${visibleLine(idle.why ?? '')}`, columns))]),
      ...loaded.map(({ name, memory_bytes: bytes, queue_depth: waiting, serving }) =>
        fit(`  ${serving ? '*' : ' '} ${visibleLine(name)}  ${bytes === null ? '' : gb(bytes)}  ${waiting} waiting`, columns),
      ),
      ...next.map((line) => paint('cyan', fit(`  ${line}`, columns))),
    ];
  }

  function nextOf(host: string, loaded: readonly { readonly name: string }[]): string[] {
    const next = queue.items.find((entry) => entry.host === host && entry.model !== null && !loaded.some(({ name }) => name === entry.model));
    return next === undefined
      ? []
      : [`next: ${visibleLine(next.model ?? '')}${next.estimated_start_time === null ? '' : `, ${relative(next.estimated_start_time, nowMs)}`}`];
  }
}

function changeText({ load, pull, unload, reason }: QueuePage['changes'][number]): string {
  const parts = [
    ...(pull === null ? [] : [`fetches ${visibleLine(pull)}`]),
    ...(unload.length > 0 ? [`unloads ${unload.map(visibleLine).join(', ')}`] : []),
    ...(load === null ? [] : [`loads ${visibleLine(load)}`]),
  ];
  return `${parts.join(', ')}: ${visibleLine(reason)}`;
}

const indented = (lines: readonly string[]) => lines.map((line) => `  ${line}`);

const runningColumns = (nowMs: number): readonly Column<Running>[] => [
  { title: 'ID', value: ({ task_id }) => task_id?.slice(0, 8) ?? '-' },
  { title: 'P', value: ({ priority }) => String(priority) },
  { title: 'NAME', value: ({ name }) => name ?? 'of another user', flexible: true },
  { title: 'STEP', value: ({ step }) => step ?? '', flexible: true },
  { title: 'MODEL', value: ({ model }) => model ?? '', flexible: true },
  { title: 'HOST', value: ({ host }) => host, flexible: true },
  { title: 'RUNS', value: ({ started_at: time }) => (time === null ? '' : span(Math.max(0, (nowMs - Date.parse(time)) / 1_000))) },
  { title: 'PROGRESS', value: progressOf, flexible: true },
  { title: 'END', value: ({ estimated_completion_time: time }) => (time === null ? '' : relative(time, nowMs)) },
];

function progressOf({ progress }: Running): string {
  if (progress === null) return '';
  return `${progress.phase}${progress.done === null ? '' : ` ${progress.done}${progress.total === null ? '' : `/${progress.total}`}`}`;
}
