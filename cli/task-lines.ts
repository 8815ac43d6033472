import type { ExecutionView } from '../contract/schemas/execution.js';
import type { TaskView } from '../contract/schemas/task.js';
import type { StatusDetail, TaskStatus } from '../contract/status.js';
import { moment, relative, span } from './moments.js';
import { type Color, type Column, layOut, type Terminal } from './terminal.js';
import { fit, visibleJson, visibleLine, visibleText } from './visible.js';

export const statusColors: Readonly<Record<TaskStatus, Color>> = { queued: 'yellow', running: 'cyan', completed: 'green', failed: 'red', cancelled: 'dim' };

const reasons: Readonly<Record<StatusDetail, string>> = {
  waiting_dependency: 'waits for other tasks',
  blocked: 'a task it waits for did not complete',
  held: 'is held',
  waiting_model: 'waits for its model',
  waiting_slot: 'waits for a free place',
  waiting_retry: 'waits before the next attempt',
  waiting_lock: 'waits for a lock that another task has',
  waiting_resource: 'waits for resources that other tasks hold',
  cancelling: 'is being cancelled',
};

/** Status and why the task stands there, in words. */
export function standing(task: TaskView): string {
  return task.status_detail === null ? task.status : `${task.status}, ${reasons[task.status_detail] ?? task.status_detail}`;
}

export function taskColumns(nowMs: number): readonly Column<TaskView>[] {
  return [
    { title: 'ID', value: ({ id }) => id.slice(0, 8), plain: ({ id }) => id },
    { title: 'STATUS', value: ({ status }) => status, color: ({ status }) => statusColors[status] },
    { title: 'P', value: ({ priority }) => String(priority) },
    { title: 'NAME', value: ({ name }) => name, flexible: true },
    { title: 'TEMPLATE', value: ({ template }) => template, flexible: true },
    { title: 'CREATED', value: ({ created_at }) => relative(created_at, nowMs), plain: ({ created_at }) => created_at },
    { title: 'WHY', value: whyOf, plain: whyOf, flexible: true },
  ];
}

function whyOf(task: TaskView): string {
  if (task.error !== null) return task.error.message;
  const place = task.queue_position === null ? '' : `place ${task.queue_position}`;
  return [place, task.status_detail === null ? '' : (reasons[task.status_detail] ?? task.status_detail)].filter((text) => text !== '').join(', ');
}

/** Everything of a task that a person asks for, line by line. */
export function describeTask(task: TaskView, executions: readonly ExecutionView[], terminal: Pick<Terminal, 'columns' | 'paint'>, nowMs: number): string[] {
  const { columns: width, paint } = terminal;
  const facts: (readonly [string, string])[] = [
    ['status', paint(statusColors[task.status], standing(task))],
    ['template', visibleLine(task.template)],
    ['name', visibleLine(task.name)],
    ['priority', String(task.priority)],
    ['place', task.queue_position === null ? '' : String(task.queue_position)],
    ['waits for', task.blocked_by.join(' ')],
    ['attempt', task.attempt === 1 ? '' : String(task.attempt)],
    ['created', moment(task.created_at, nowMs)],
    ['started', moment(task.started_at, nowMs)],
    ['ended', moment(task.completed_at, nowMs)],
    ['ran', task.started_at === null ? '' : span(((task.completed_at === null ? nowMs : Date.parse(task.completed_at)) - Date.parse(task.started_at)) / 1_000)],
    ['expected', task.estimated_completion_time === null ? '' : moment(task.estimated_completion_time, nowMs)],
    ['owner', visibleLine(task.user_id)],
    ['model', task.resource_usage === null ? '' : `${visibleLine(task.resource_usage.model_name)}, ${span(task.resource_usage.inference_time_seconds)}`],
  ];
  const lines = [paint('bold', task.id), ...facts.filter(([, value]) => value !== '').map(([name, value]) => `  ${name.padEnd(10)}${value}`)];
  lines.push('parameters', ...indented(visibleJson(task.parameters), width));
  if (executions.length > 0) lines.push('steps', ...layOut(executionColumns, executions, width - 2, paint).map((line) => `  ${line}`));
  if (task.error !== null) {
    const where = task.error.step === null ? '' : ` in step ${visibleLine(task.error.step)}, attempt ${task.error.attempt}`;
    lines.push(paint('red', `error ${visibleLine(task.error.code)}${where}`), ...indented(visibleText(task.error.message), Number.POSITIVE_INFINITY));
  }
  if (task.result !== null) lines.push('result', ...resultLines(task).map((line) => `  ${line}`));
  return lines;
}

const executionColumns: readonly Column<ExecutionView>[] = [
  { title: 'STEP', value: ({ step }) => step, flexible: true },
  { title: 'TYPE', value: ({ step_type }) => step_type, flexible: true },
  { title: 'TRY', value: ({ attempt, step_attempt }) => (attempt === 1 ? String(step_attempt) : `${attempt}.${step_attempt}`) },
  {
    title: 'STATUS',
    value: ({ status }) => status,
    color: ({ status }) => (status === 'completed' ? 'green' : status === 'failed' ? 'red' : 'dim'),
  },
  { title: 'TOOK', value: ({ started_at, completed_at }) => span((Date.parse(completed_at) - Date.parse(started_at)) / 1_000) },
  { title: 'HOST', value: ({ host }) => host, flexible: true },
  { title: 'ERROR', value: ({ error }) => (error === null ? '' : `${error.code}${error.message === undefined ? '' : `: ${error.message}`}`), flexible: true },
];

/** What a task gave: a text as a text, anything else as JSON, without the outputs of the single steps. */
export function resultLines({ result }: Pick<TaskView, 'result'>): string[] {
  if (result === null) return [];
  const { steps: _steps, ...own } = result;
  const text = own['text'];
  return (typeof text === 'string' ? visibleText(text) : visibleJson(own)).split('\n');
}

/** @param width lines are cut there */
function indented(text: string, width: number): string[] {
  return text.split('\n').map((line) => `  ${fit(line, width - 2)}`);
}
