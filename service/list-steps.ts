import type { JsonObject } from '../contract/json.js';
import type { PlanStep, Renderer } from '../contract/plan.js';
import type { FailureInfo } from '../contract/failure.js';
import type { StepTryView, TaskStepsView } from '../contract/schemas/task-steps.js';
import { hideSecrets } from '../contract/secrets.js';
import { outputsFor } from '../db/line.js';
import { readSteps, type StepsRow, type TryRow } from '../db/steps.js';
import type { Template } from '../templates/parse-template.js';
import { createRenderer } from '../templates/render.js';
import { type Caller, ownerOf } from './caller.js';
import type { CatalogueNow } from './compile-request.js';
import type { ServiceDeps } from './deps.js';
import { plannedStepView } from './planned-step.js';
import { standingsOf } from './step-standing.js';
import { taskIdOf, taskNotFound } from './task-id.js';

/** A larger output is not shown with its step. */
const outputBytesMax = 64 * 1024;

/** The steps of one of the caller's tasks: what they were to do, where they stand, and each time that they stood in the line. @throws {ProblemError} task_not_found */
export function listStepsUseCase({ sql }: ServiceDeps, catalogue: CatalogueNow) {
  const renderer = createRenderer();
  return async (caller: Caller, idText: string): Promise<TaskStepsView> => {
    const found = await readSteps(sql, taskIdOf(idText), ownerOf(caller), outputBytesMax);
    if (found === null) throw taskNotFound();
    const template = catalogue().get(found.plan.template)?.template;
    return stepsView(found, template, renderer);
  };
}

function stepsView(found: StepsRow, template: Template | undefined, renderer: Renderer): TaskStepsView {
  const { plan, attempt, error } = found;
  const standings = standingsOf(found);
  const outputs = new Map(found.outputs.map((each) => [each.step, each]));
  return {
    attempt,
    template: { name: plan.template, file: template?.file ?? null, current: template?.hash === plan.templateHash },
    failed_at: error === null || error.step === null ? null : failedAt(template, error.step, error),
    items: plan.steps.map((step) => {
      const input = inputOf(found, step, renderer);
      const tries = found.tries.filter((each) => each.step === step.id);
      return {
        ...plannedStepView(step),
        input: hideSecrets(input ?? step.input),
        rendered: input !== null,
        state: standings.get(step.id) ?? 'pending',
        place: placeOf(template, step.id, []),
        output: outputs.get(step.id)?.output ?? null,
        output_bytes: outputs.get(step.id)?.bytes ?? null,
        tries: tries.map((each, index) => tryView(each, tries[index - 1])),
      };
    }),
  };
}

/** The input with what it takes from outputs, as it was when the step began; null where that cannot be told. */
function inputOf({ plan, outputs, attempt, tries }: StepsRow, step: PlanStep, renderer: Renderer): JsonObject | null {
  if (step.deferred.length === 0) return step.input;
  if (!tries.some((each) => each.step === step.id && each.attempt === attempt && each.startedAt !== null)) return null;
  const known = outputs.flatMap(({ step: id, output }) => (output === null ? [] : [{ step: id, output }]));
  if (known.length < outputs.length) return null;
  try {
    return renderer.input(plan, step, outputsFor(plan, step, known));
  } catch {
    return null; // the failure of the step tells what was wrong
  }
}

function tryView(row: TryRow, before: TryRow | undefined): StepTryView {
  // A slot that was lost costs no place, so its row is as old as the one before; what it waited began when that one ended.
  const again = before !== undefined && before.attempt === row.attempt && before.endedAt !== null && row.enteredAt !== null && before.endedAt > row.enteredAt;
  const enteredAt = again ? before.endedAt : row.enteredAt;
  const waitedUntil = row.grantedAt ?? row.endedAt;
  return {
    attempt: row.attempt,
    step_attempt: row.stepAttempt,
    try: row.tryNo,
    state: stateOf(row),
    host: row.host,
    entered_at: iso(enteredAt),
    granted_at: iso(row.grantedAt),
    started_at: iso(row.startedAt),
    ended_at: iso(row.endedAt),
    first_output_at: iso(row.firstOutputAt),
    model_load: loadWithin(row.load, enteredAt, waitedUntil),
    cause: row.cause,
    execution_id: row.executionId,
  };
}

function stateOf({ line, ended, cause }: TryRow): StepTryView['state'] {
  if (line === 'waiting' || line === 'granted') return 'waiting';
  if (line === 'running') return 'running';
  return ended ?? (cause === 'cancelled' ? 'cancelled' : 'void');
}

/** What of a load of a model fell into a wait; null when nothing did. */
function loadWithin(load: TryRow['load'], from: string | null, until: string | null): StepTryView['model_load'] {
  if (load === null || from === null) return null;
  const startedAt = Math.max(Date.parse(load.startedAt), Date.parse(from));
  const ends = [load.endedAt, until].filter((at) => at !== null).map((at) => Date.parse(at));
  const endedAt = ends.length === 0 ? null : Math.min(...ends);
  if (endedAt !== null && endedAt <= startedAt) return null;
  return { started_at: new Date(startedAt).toISOString(), ended_at: endedAt === null ? null : new Date(endedAt).toISOString() };
}

const iso = (at: string | null) => (at === null ? null : new Date(at).toISOString());

/** Where a part of a step stands in the file of its template. */
function placeOf(template: Template | undefined, step: string, path: readonly (string | number)[]): { line: number; column: number } | null {
  const index = template?.steps.findIndex(({ id }) => id === step) ?? -1;
  if (template === undefined || index < 0) return null;
  const { line, column } = template.yaml.at(['steps', index, ...path]);
  return { line, column };
}

function failedAt(template: Template | undefined, step: string, error: FailureInfo): TaskStepsView['failed_at'] {
  const field = fieldOf(error);
  const place = placeOf(template, step, field === null ? [] : pathOf(field));
  return place === null || template === undefined ? null : { file: template.file, ...place, field };
}

/** The field that an error of templates or of a step's input names. */
function fieldOf({ details }: FailureInfo): string | null {
  if (typeof details !== 'object' || details === null || Array.isArray(details)) return null;
  const { field, faults } = details;
  if (typeof field === 'string') return field;
  const first = Array.isArray(faults) ? faults[0] : undefined;
  return typeof first === 'string' ? (/^([A-Za-z_][\w.[\]]{0,200}): /.exec(first)?.[1] ?? null) : null;
}

/** `options.stop[0]` or `options.stop.0` as keys and indexes. */
function pathOf(field: string): (string | number)[] {
  return field.split(/[.[\]]+/).flatMap((part) => (part === '' ? [] : [/^\d+$/.test(part) ? Number(part) : part]));
}
