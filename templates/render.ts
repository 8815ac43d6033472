import { failureCodes, StepFailure } from '../contract/failure.js';
import type { JsonObject, JsonValue } from '../contract/json.js';
import type { Plan, PlanStep, Renderer, StepOutputs } from '../contract/plan.js';
import { analyse, builtInNames, wholeExpression, type Analysis } from './expression.js';
import { pathText, type YamlPath } from './fault.js';
import { evaluate, isTrue, renderText, TemplateError } from './jinja.js';

/**
 * Renders one string. What comes out is a value and is never rendered again.
 * @param context names and their values; plain JSON
 * @returns undefined when the string is nothing but the name of something that the context does not have: its field is left out
 * @throws {TemplateError} naming what has no value
 */
export function renderString(source: string, context: JsonObject): JsonValue | undefined {
  const whole = wholeExpression(source);
  if (whole !== null && /^[A-Za-z_]\w*$/.test(whole) && !Object.hasOwn(context, whole)) return undefined;
  const analysis = analyse(source);
  const missing = missingName(analysis, context);
  if (missing !== null) throw new TemplateError(`"${missing}" has no value; use the filter default or the test "is defined" where it may be absent`);
  if (whole === null) return renderText(source, narrowed(analysis, context));
  // A plain name needs no evaluation, which would sort the keys of objects; models are given JSON Schemas whose order means something.
  const value =
    /^[A-Za-z_]\w*(\.[A-Za-z_]\w*)*$/.test(whole) && !builtInNames.has(whole)
      ? valueAt(whole.split('.'), context)
      : evaluate(whole, narrowed(analysis, context));
  if (value === undefined) throw new TemplateError(`{{ ${whole} }} has no value`);
  return value;
}

function valueAt(path: readonly string[], context: JsonObject): JsonValue | undefined {
  return path.reduce<JsonValue | undefined>(
    (at, part) => (typeof at === 'object' && at !== null && !Array.isArray(at) && Object.hasOwn(at, part) ? at[part] : undefined),
    context,
  );
}

/**
 * Whether a condition, a bare expression, is true.
 * @throws {TemplateError} naming what has no value
 */
export function holds(condition: string, context: JsonObject): boolean {
  const analysis = analyse(`{{ ${condition} }}`);
  const missing = missingName(analysis, context);
  if (missing !== null) throw new TemplateError(`"${missing}" has no value; use the test "is defined" where it may be absent`);
  return isTrue(condition, narrowed(analysis, context));
}

/**
 * The first name that a string needs and the context lacks. MiniJinja itself neither names it nor notices it in `{{ x|upper }}`,
 * `{{ x ~ 'a' }}` or `not x`.
 * @param ignored first parts of names that are not looked at
 */
export function missingName(analysis: Analysis | null, context: JsonObject, ignored: readonly string[] = []): string | null {
  for (const { path, required } of analysis?.references ?? []) {
    if (!required || ignored.includes(String(path[0]))) continue;
    let at: JsonValue | undefined = context;
    for (const [index, part] of path.entries()) {
      if (Array.isArray(at) && typeof part === 'number') at = at.at(part);
      else if (typeof at === 'object' && at !== null && !Array.isArray(at)) at = Object.hasOwn(at, part) ? at[part] : undefined;
      else if (at === null) at = undefined;
      else break;
      if (at === undefined) return pathText(path.slice(0, index + 1));
    }
  }
  return null;
}

/** Renders what had to wait for the outputs of earlier steps. Holds no state; one serves a whole process. */
export function createRenderer(): Renderer {
  return {
    input(plan, step, outputs) {
      const input = structuredClone(step.input);
      const context = contextOf(plan, outputs);
      for (const { path, template } of step.deferred) {
        const value = translated(step, pathText(path), () => renderString(template, context));
        if (value !== undefined) setAt(input, path, value);
      }
      return input;
    },
    condition(plan, step, outputs) {
      const { when } = step;
      return when === undefined || translated(step, 'when', () => holds(when, contextOf(plan, outputs)));
    },
  };
}

function contextOf(plan: Plan, outputs: StepOutputs): JsonObject {
  return { ...plan.parameters, steps: outputs.steps as JsonObject, previous: outputs.previous };
}

function translated<T>(step: PlanStep, field: string, render: () => T): T {
  try {
    return render();
  } catch (error) {
    if (!(error instanceof TemplateError)) throw error;
    const message = `step "${step.id}", field "${field}": ${error.message}`;
    throw new StepFailure(failureCodes.templateError, message, { retryable: false, details: { step: step.id, field }, cause: error });
  }
}

function setAt(input: JsonObject, path: YamlPath, value: JsonValue): void {
  let at: JsonValue = input;
  for (const [index, part] of path.entries()) {
    const container = at as Record<string | number, JsonValue>;
    if (index === path.length - 1) container[part] = value;
    else at = container[part] as JsonValue;
  }
}

/** Only what is named crosses into the sandbox: all outputs of a long plan would not fit there. */
function narrowed(analysis: Analysis | null, context: JsonObject): JsonObject {
  if (!analysis) return context;
  const roots = new Set(analysis.references.map(({ path }) => String(path[0])));
  const kept = Object.fromEntries(Object.entries(context).filter(([name]) => roots.has(name)));
  const steps = context['steps'];
  const ids = analysis.references.filter(({ path }) => path[0] === 'steps').map(({ path }) => path[1]);
  if (typeof steps === 'object' && steps !== null && !ids.includes(undefined)) {
    kept['steps'] = Object.fromEntries(Object.entries(steps).filter(([id]) => ids.includes(id)));
  }
  return kept;
}
