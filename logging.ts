import { closeSync, fstatSync, mkdirSync, openSync, renameSync, rmSync, writeSync } from 'node:fs';
import path from 'node:path';
import pino, { type DestinationStream, type Logger } from 'pino';
import type { Config } from './config.js';
import { isSecretName, withoutSecrets } from './contract/secrets.js';

const fieldCharactersMax = 8_192;
const depthMax = 5;
const itemsMax = 100;
const lineCharactersMax = 65_536;

/** What may drive a terminal or reorder text: C1, line and paragraph separators, direction marks. JSON escapes the rest itself. */
// biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is looked for
const unsafe = /[\u007f-\u009f\u2028\u2029\u200e\u200f\u202a-\u202e\u2066-\u2069]/g;
// biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is looked for
const control = /[\u0000-\u001f\u007f-\u009f\u2028\u2029\u200e\u200f\u202a-\u202e\u2066-\u2069]/g;

/** Where lines go; tests give their own. */
export interface LogSink {
  write(line: string): void;
}

/**
 * The logger of a main. JSON lines carry `task_id` and `workflow_id`; text lines are `time - name - level - message`.
 * Secrets are replaced, control characters escaped and long fields cut, whoever logs them.
 * @param main such as `api`; on every JSON line
 * @param sinks default: those of `logging.handlers`; console is standard output
 */
export function createLogger(logging: Config['logging'], main: string, sinks: readonly LogSink[] = sinksOf(logging, main)): Logger {
  const destination: DestinationStream = {
    write: (line) => {
      // Read again, since neither the message nor what `child()` binds passes a formatter.
      const record = fields(JSON.parse(line) as Record<string, unknown>);
      const written = logging.format === 'json' ? jsonLine(record) : textLine(record);
      for (const sink of sinks) sink.write(written);
    },
  };
  return pino(
    {
      name: 'Orchestrator',
      level: pinoLevel(logging.level),
      base: { main, pid: process.pid },
      timestamp: pino.stdTimeFunctions.isoTime,
      formatters: {
        level: (label) => ({ level: levelName(label) }),
        log: (object) => fields(object),
      },
      serializers: { err: (error: unknown) => error }, // fields() has done it
    },
    destination,
  );
}

function sinksOf(logging: Config['logging'], main: string): readonly LogSink[] {
  return logging.handlers.map((handler) =>
    handler === 'console'
      ? { write: (line: string) => void process.stdout.write(line) }
      : withoutFault(() => createRotatingFile({ ...logging.file, path: fileOfMain(logging.file.path, main) })),
  );
}

/** Two processes cannot turn one file over, so each main has its own: `app.log` is `app.api.log` for the API. */
export function fileOfMain(file: string, main: string): string {
  const { dir, name, ext } = path.parse(file);
  return path.join(dir, `${name}.${main}${ext}`);
}

/** How long a file that could not be written is left alone. */
const fileAgainMs = 10_000;

/**
 * A sink that never fails: a full disk or a folder that nobody may write to stops no process. What could not be written is lost to it, and the first
 * time of each trouble is told.
 * @param tell default: standard error
 */
export function withoutFault(
  open: () => LogSink,
  tell: (text: string) => void = (text) => void process.stderr.write(text),
  nowMs = () => performance.now(),
): LogSink {
  let sink: LogSink | null = null;
  let notBeforeMs = Number.NEGATIVE_INFINITY;
  let told = false;
  return {
    write(line) {
      if (nowMs() < notBeforeMs) return;
      try {
        sink ??= open();
        sink.write(line);
        told = false;
      } catch (error) {
        sink = null;
        notBeforeMs = nowMs() + fileAgainMs;
        if (!told) tell(`The log file cannot be written: ${error instanceof Error ? error.message : String(error)}\n`);
        told = true;
      }
    },
  };
}

/** A level of the configuration in pino's words. */
export function pinoLevel(level: Config['logging']['level']): string {
  return level === 'WARNING' ? 'warn' : level.toLowerCase();
}

function levelName(label: string): string {
  return label === 'warn' ? 'WARNING' : label.toUpperCase();
}

/** A line's own fields as they are written: ids under one name each, no secrets, bounded. */
function fields(object: Record<string, unknown>): Record<string, unknown> {
  const { taskId, workflowId, ...rest } = object;
  const safe = safeValue(rest, 0) as Record<string, unknown>;
  const task = safe['task_id'] ?? taskId;
  const workflow = safe['workflow_id'] ?? workflowId ?? (typeof task === 'string' ? `task-${task}` : undefined);
  return { ...safe, ...(task === undefined ? {} : { task_id: task }), ...(workflow === undefined ? {} : { workflow_id: workflow }) };
}

function safeValue(value: unknown, depth: number): unknown {
  if (typeof value === 'string') return safeText(value);
  if (typeof value === 'bigint') return String(value);
  if (typeof value !== 'object' || value === null) return value;
  if (value instanceof Error) return safeError(value, depth);
  if (value instanceof Date) return value;
  if (depth >= depthMax) return '[deeper]';
  if (Array.isArray(value))
    return [...value.slice(0, itemsMax).map((item) => safeValue(item, depth + 1)), ...(value.length > itemsMax ? [`[${value.length - itemsMax} more]`] : [])];
  return Object.fromEntries(
    Object.entries(value)
      .slice(0, itemsMax)
      .map(([key, item]) => [key, isSecretName(key) && item !== null && item !== undefined ? '[redacted]' : safeValue(item, depth + 1)]),
  );
}

function safeError(error: Error, depth: number): unknown {
  if (depth >= depthMax) return safeText(error.message);
  const { code, cause } = error as { code?: unknown; cause?: unknown };
  return {
    type: error.name,
    message: safeText(error.message),
    ...(code === undefined ? {} : { code: safeValue(code, depth + 1) }),
    ...(error.stack === undefined ? {} : { stack: safeText(error.stack) }),
    ...(cause === undefined ? {} : { cause: safeValue(cause, depth + 1) }),
  };
}

/** A secret may begin before the cut and end behind it, so this much more is looked at. */
const secretCharactersMax = 2_048;

function safeText(value: string): string {
  if (value.length <= fieldCharactersMax) return withoutSecrets(value);
  const kept = withoutSecrets(value.slice(0, fieldCharactersMax + secretCharactersMax)).slice(0, fieldCharactersMax);
  return `${kept}[${value.length - fieldCharactersMax} more]`;
}

function escaped(character: string): string {
  return `\\u${character.charCodeAt(0).toString(16).padStart(4, '0')}`;
}

function jsonLine(record: Record<string, unknown>): string {
  const line = JSON.stringify(record);
  if (line.length <= lineCharactersMax) return `${line.replaceAll(unsafe, escaped)}\n`;
  const kept = Object.fromEntries(
    ['level', 'time', 'main', 'pid', 'name', 'task_id', 'workflow_id', 'msg'].filter((key) => key in record).map((key) => [key, record[key]]),
  );
  return `${JSON.stringify({ ...kept, truncated: true }).replaceAll(unsafe, escaped)}\n`;
}

function textLine(record: Record<string, unknown>): string {
  const message = String(record['msg'] ?? '');
  const err = record['err'] as { message?: string } | undefined;
  const said = err?.message === undefined || err.message === message ? message : `${message}: ${err.message}`;
  const failed = record['level'] === 'ERROR' || record['level'] === 'FATAL';
  const ids = failed
    ? ` | Task ID: ${String(record['task_id'] ?? '-')} | Workflow ID: ${String(record['workflow_id'] ?? '-')}`
    : record['task_id'] === undefined
      ? ''
      : ` | Task ID: ${String(record['task_id'])}`;
  const request = record['request_id'] === undefined ? '' : ` | Request ID: ${String(record['request_id'])}`;
  const shown = `${failed ? 'Error: ' : ''}${said}${answerOf(record)}${detailsOf(record)}${ids}${request}`;
  return `${String(record['time'])} - ${String(record['name'])} - ${String(record['level'])} - ${shown.replaceAll(control, escaped)}\n`;
}

/** What a text line says elsewhere, or leaves to JSON. */
const saidElsewhere = new Set([
  'level',
  'time',
  'name',
  'main',
  'pid',
  'msg',
  'err',
  'task_id',
  'workflow_id',
  'request_id',
  'method',
  'path',
  'status',
  'milliseconds',
]);
const detailsCharactersMax = 2_000;

/** The other fields of a line, such as the reason of a failed step; without them nobody could find a fault from the text alone. */
function detailsOf(record: Record<string, unknown>): string {
  const details = Object.fromEntries(Object.entries(record).filter(([key]) => !saidElsewhere.has(key)));
  if (Object.keys(details).length === 0) return '';
  const text = JSON.stringify(details);
  return ` ${text.length > detailsCharactersMax ? `${text.slice(0, detailsCharactersMax)}[${text.length - detailsCharactersMax} more]` : text}`;
}

/** What a line about a request says of its answer; nothing on other lines. */
function answerOf({ method, path, status, milliseconds }: Record<string, unknown>): string {
  return method === undefined || path === undefined || status === undefined
    ? ''
    : ` ${String(method)} ${String(path)} ${String(status)} in ${String(milliseconds)} ms`;
}

/** A file that is renamed to `.1`, `.2`... when the next line would make it larger than its bound. */
export function createRotatingFile(options: Config['logging']['file']): LogSink {
  mkdirSync(path.dirname(options.path), { recursive: true });
  let descriptor = openSync(options.path, 'a', 0o640);
  let sizeBytes = fstatSync(descriptor).size;
  const rotate = () => {
    closeSync(descriptor);
    if (options.backupCount === 0) rmSync(options.path);
    for (let number = options.backupCount; number > 0; number--) {
      const from = number === 1 ? options.path : `${options.path}.${number - 1}`;
      try {
        renameSync(from, `${options.path}.${number}`);
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error; // fewer backups than allowed
      }
    }
    descriptor = openSync(options.path, 'a', 0o640);
    sizeBytes = 0;
  };
  return {
    write(line) {
      const bytes = Buffer.from(line);
      if (sizeBytes > 0 && sizeBytes + bytes.length > options.maxSizeBytes) rotate();
      writeSync(descriptor, bytes);
      sizeBytes += bytes.length;
    },
  };
}
