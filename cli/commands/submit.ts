import type { TaskPreview } from '../../client/shapes.js';
import { collect, type AddCommand, act } from '../command.js';
import { usageFault } from '../failure.js';
import { followTask, leftRunning, tellEnd } from '../follow.js';
import { moment, span } from '../moments.js';
import { parseParameters, readParameterFile } from '../parameters.js';
import { resolveIds } from '../resolve-ids.js';
import { countOf, levelOf } from '../task-filter.js';
import { visibleJson, visibleLine } from '../visible.js';

interface Options {
  readonly param?: readonly string[];
  readonly params?: string;
  readonly priority?: string;
  readonly dependsOn?: readonly string[];
  readonly name?: string;
  readonly description?: string;
  readonly lock?: readonly string[];
  readonly needs?: readonly string[];
  readonly retryAttempts?: string;
  readonly metadata?: string;
  readonly agent?: string;
  readonly idempotencyKey?: string;
  readonly dryRun?: boolean;
  readonly wait?: boolean;
  readonly follow?: boolean;
}

export const addSubmit: AddCommand = (program) => {
  program
    .command('submit <template>')
    .description('create a task from a template')
    .option('-p, --param <name=value>', 'a parameter; name=@file reads a file, name:=json takes JSON; repeatable', collect)
    .option('--params <file>', 'a JSON object of parameters from a file, or - for standard input')
    .option('--priority <1-10>', '10 is most urgent')
    .option('--depends-on <id>', 'wait for this task; repeatable', collect)
    .option('--name <text>', 'what to call the task')
    .option('--description <text>', 'what it is for')
    .option('--lock <name>', 'a lock that only one task at a time has; repeatable', collect)
    .option('--needs <pool=amount>', 'what it needs of a resource pool, such as cpu=2; repeatable', collect)
    .option('--retry-attempts <n>', 'attempts of each step')
    .option('--metadata <json>', 'a JSON object that is kept with the task')
    .option('--agent <name>', 'tasks of one agent run one at a time')
    .option('--idempotency-key <key>', 'submitting twice with one key creates one task')
    .option('--dry-run', 'only show what would run')
    .option('--wait', 'wait for the end; exit code 1 unless it completed')
    .option('--follow', 'show what happens until the end')
    .action(
      act<[template: string], Options>(async (session, options, template) => {
        const client = await session.client();
        const { parameters: declared } = await client.templates.get(template);
        const parameters = { ...(options.params === undefined ? {} : readParameterFile(options.params)), ...parseParameters(options.param ?? [], declared) };
        const request = {
          template,
          parameters: parameters as never,
          ...(options.priority === undefined ? {} : { priority: levelOf(options.priority) }),
          ...(options.dependsOn === undefined ? {} : { depends_on: await resolveIds(client, options.dependsOn) }),
          ...(options.name === undefined ? {} : { name: options.name }),
          ...(options.description === undefined ? {} : { description: options.description }),
          ...(options.metadata === undefined ? {} : { metadata: metadataOf(options.metadata) as never }),
          ...(options.agent === undefined ? {} : { agent_assigned: options.agent }),
          ...requirementsOf(options),
          ...(options.retryAttempts === undefined ? {} : { retry: { max_attempts: countOf(options.retryAttempts, '--retry-attempts', 100) } }),
        };
        if (options.dryRun) {
          const preview = await client.tasks.preview(request);
          if (session.json) return session.printJson(preview);
          for (const [index, step] of preview.steps.entries()) {
            session.terminal.print(`${index + 1}. ${visibleLine(step.id)} (${step.type}${step.model === null ? '' : ` on ${visibleLine(step.model)}`})`);
            for (const line of visibleJson(step.input).split('\n')) session.terminal.print(`   ${line}`);
            for (const { path, template: text } of step.deferred) session.terminal.print(`   later: ${path.join('.')} = ${visibleLine(text)}`);
          }
          for (const line of expectations(preview, Date.now())) session.terminal.note(line);
          return;
        }
        const task = await client.tasks.create(request, { idempotencyKey: options.idempotencyKey });
        if (options.follow) {
          session.terminal.note(`task ${task.id}`);
          return tellEnd(session, await followTask(session, client, task.id, { outputOnly: false }), { result: false });
        }
        if (options.wait) {
          session.terminal.note(`task ${task.id}`);
          return tellEnd(session, await client.tasks.wait(task.id, { signal: session.interruptible(leftRunning(task.id)) }), { result: true });
        }
        if (session.json) session.printJson(task);
        else session.terminal.print(task.id);
      }),
    );
};

/** What is expected of a task that was not submitted. */
export function expectations(preview: TaskPreview, nowMs: number): string[] {
  const { estimated_duration_seconds: seconds, estimated_duration_interval: between, estimated_start_time: start, queue_position: place } = preview;
  return [
    seconds === null
      ? 'takes: not known, since not all of its steps have run here before'
      : `takes: about ${span(seconds)}${between === null ? '' : `, ${span(between[0])} to ${span(between[1])} in 80 of 100 cases`}`,
    start === null
      ? `would start: cannot be told${preview.waits_for === null ? '' : ` (${preview.waits_for})`}`
      : `would start: ${moment(start, nowMs)}${place === null ? '' : `, at place ${place} of what waits`}`,
  ];
}

function requirementsOf({ lock = [], needs = [] }: Options): { resource_requirements?: { locks?: string[]; resources?: Record<string, number> } } {
  if (lock.length + needs.length === 0) return {};
  return {
    resource_requirements: {
      ...(lock.length === 0 ? {} : { locks: [...lock] }),
      ...(needs.length === 0 ? {} : { resources: Object.fromEntries(needs.map(amountOf)) }),
    },
  };
}

/** @throws {CliFailure} for what is no JSON object */
function metadataOf(text: string): object {
  try {
    const value: unknown = JSON.parse(text);
    if (typeof value === 'object' && value !== null && !Array.isArray(value)) return value;
  } catch {
    // told below
  }
  throw usageFault(`--metadata ${text} is no JSON object: give one such as {"team": "docs"}.`);
}

function amountOf(text: string): [pool: string, amount: number] {
  const [, pool = '', amount = ''] = /^([^=]+)=(\d+(?:\.\d+)?)$/.exec(text) ?? [];
  if (pool === '') throw usageFault(`--needs ${text} is no amount of a pool: give one such as cpu=2.`);
  return [pool, Number(amount)];
}
