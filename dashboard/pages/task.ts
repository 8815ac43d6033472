import { taskWorkflowId } from '../../contract/ids.js';
import { levelMax } from '../../contract/priority.js';
import type { ExecutionView } from '../../contract/schemas/execution.js';
import type { CreateTaskRequest } from '../../contract/schemas/task.js';
import type { TaskStepsView } from '../../contract/schemas/task-steps.js';
import { isFinal } from '../../contract/status.js';
import { temporalPage } from '../../contract/temporal-page.js';
import { unfiltered } from '../../service/list-queue.js';
import { waterfallOf } from '../drawings/waterfall.js';
import type { Page, PageRequest } from '../page.js';
import { shownValue } from '../shown-text.js';

/** Characters of one value, and of one try's log, that the page shows; the API has the whole. */
const shownCharsMax = 20_000;
/** A request longer than this is not kept in the page to be copied. */
const copiedCharsMax = 200_000;
const waitingMax = 50;

/** One task: where it stands and why, its steps and what each spent its time on, what it prints, its result or error, and what can be done about it. */
export const taskPage: Page = {
  path: '/tasks/:id',
  nav: null,
  access: 'read',
  view: 'task',
  // Its script follows the events of the task and draws the page anew, so that one stream is enough.
  live: [],
  ownStream: true,
  scripts: ['commands.js', 'task.js'],
  async load(request) {
    const { caller, services, config } = request;
    const id = request.param('id');
    const task = await services.getTask(caller, id);
    const [submitted, steps, executions, relations, queue, outputs] = await Promise.all([
      services.requestOfTask(caller, task),
      services.listSteps(caller, id),
      services.listExecutions(caller, id),
      services.listRelations(caller, id),
      isFinal(task.status) ? null : services.listQueue(caller, { ...everything, tasks: [task.id] }),
      services.events.lastOutputs(caller, [task.id]),
    ]);
    const nowMs = Date.now();
    const attempts = Array.from({ length: task.attempt }, (_, index) => task.attempt - index);
    const { steps: _outputs, ...result } = task.result ?? {};
    return {
      title: task.name,
      data: {
        task,
        steps,
        relations,
        open: !isFinal(task.status),
        waits: queue?.items ?? [],
        attempts: attempts
          .map((attempt) => ({ attempt, waterfall: waterfallOf(steps.items, executions.items, attempt, nowMs) }))
          .filter(({ attempt, waterfall }) => attempt === task.attempt || waterfall !== null),
        result: task.result === null ? null : shownValue(textOf(result) ?? result, shownCharsMax),
        used: usedBy(executions.items),
        files: filesOf(steps),
        failedLines: failedLines(steps, request),
        lastOutput: outputs.get(task.id) ?? null,
        shown: (value: Parameters<typeof shownValue>[0]) => shownValue(value, shownCharsMax),
        levels: Array.from({ length: levelMax }, (_, index) => levelMax - index),
        mayChange: caller.role !== 'viewer',
        temporalLink: config.temporalUi === null ? null : temporalPage(config.temporalUi, config.temporalNamespace, taskWorkflowId(task.id)),
        request: requestText(submitted),
      },
    };
  },
};

const everything = { ...unfiltered, limit: waitingMax, cursor: null };

/** A result that is a text is read as one. */
function textOf(result: object): string | null {
  return 'text' in result && typeof result.text === 'string' ? result.text : null;
}

/** What submits the same task again, as JSON without what says nothing; null when it is too long to be copied. */
function requestText({ depends_on: dependsOn, metadata, ...request }: CreateTaskRequest): string | null {
  const text = JSON.stringify({
    ...request,
    ...(dependsOn.length === 0 ? {} : { depends_on: dependsOn }),
    ...(Object.keys(metadata).length === 0 ? {} : { metadata }),
  });
  return text.length > copiedCharsMax ? null : text;
}

/** What all tries of all attempts used together. */
function usedBy(executions: readonly ExecutionView[]) {
  const sum = (values: readonly (number | null)[]) => values.reduce<number>((all, value) => all + (value ?? 0), 0);
  const metric = (name: string) => sum(executions.map(({ metrics }) => (typeof metrics[name] === 'number' ? metrics[name] : null)));
  const memory = executions.flatMap(({ memory_used: used }) => (used === null ? [] : [used]));
  const [outputTokens, generatedMs] = [metric('output_tokens'), metric('eval_duration_ms')];
  return {
    inferenceSeconds: metric('inference_time_seconds'),
    promptTokens: metric('prompt_tokens'),
    outputTokens,
    tokensPerSecond: generatedMs > 0 ? outputTokens / (generatedMs / 1_000) : null,
    cpuSeconds: sum(executions.map(({ cpu_used: used }) => used)),
    memoryGb: memory.length === 0 ? null : Math.max(...memory),
  };
}

interface StoredFile {
  readonly step: string;
  readonly path: string;
  readonly bytes: number | null;
  readonly sha256: string;
}

/** Files that steps of the present attempt have stored. */
function filesOf({ items }: TaskStepsView): StoredFile[] {
  return items.flatMap(({ id, type, output }) => {
    if (type !== 'store_result' || output === null || typeof output['path'] !== 'string') return [];
    const { path, size_bytes: bytes, sha256 } = output;
    return [{ step: id, path, bytes: typeof bytes === 'number' ? bytes : null, sha256: typeof sha256 === 'string' ? sha256 : '' }];
  });
}

/** The lines of the template at which the failed step stands; null when they are not those that the task was made of. */
function failedLines(
  { failed_at: at, template }: TaskStepsView,
  { services }: PageRequest,
): { readonly number: number; readonly text: string; readonly here: boolean }[] | null {
  if (at === null || !template.current) return null;
  const lines = services.getTemplate(template.name).yaml.trimEnd().split('\n');
  const first = Math.max(1, at.line - 2);
  return lines.slice(first - 1, at.line + 2).map((text, index) => ({ number: first + index, text, here: first + index === at.line }));
}
