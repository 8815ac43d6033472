import { z } from 'zod';
import type { JsonObject, JsonValue } from '../contract/json.js';
import type { AliasedModel } from '../contract/model-alias.js';
import { parseModelName } from '../contract/model-name.js';
import type { Deferred, Plan, PlanStep, RetryPolicy } from '../contract/plan.js';
import type { ModelNeed } from '../contract/queues.js';
import type { ModelProfile } from '../contract/schemas/model-options.js';
import type { RetrySettings } from '../contract/schemas/template.js';
import { analyse, hasExpression } from './expression.js';
import { pathText, type SubmissionFault, type YamlPath } from './fault.js';
import { describeValue, fieldNames } from './issues.js';
import { TemplateError } from './jinja.js';
import { checkParameters, type Match } from './parameters.js';
import type { Template, TemplateStep } from './parse-template.js';
import { holds, missingName, renderString } from './render.js';
import { checkInput } from './step-input.js';

/** A plan is the input of a Temporal workflow, which takes 2 MB; parameters that many steps repeat may exceed it. */
export const planBytesMax = 1_500_000;
const titleBytesMax = 200;

/** Waiting between attempts where nobody says otherwise. */
export const retryDefaults = { initial_interval_seconds: 1, backoff_coefficient: 2, max_interval_seconds: 60 } as const;

/** What a task may use, as its request names it. */
export interface TaskLimits {
  readonly timeout_seconds?: number | undefined;
  readonly output_bytes?: number | undefined;
  readonly memory_gb?: number | undefined;
  readonly disk_gb?: number | undefined;
}

export interface CompileOptions {
  /** how the patterns of parameters are tried */
  readonly match?: Match | undefined;
  /** what the task asks for; stands above the template and below a step */
  readonly retry?: RetrySettings | undefined;
  readonly limits?: TaskLimits | undefined;
  /** what the deployment says */
  readonly deployment: {
    /** tokens of context for a step that names none in `options.num_ctx` */
    readonly numCtx: number;
    /** see {@link parseModelName} */
    readonly allowedRegistries: readonly string[];
    /** longest time that a step or a task may ask for */
    readonly timeoutSecondsMax: number;
    /** longest time of an attempt for which nobody asks for another; default: what the step type says */
    readonly timeoutSeconds?: number | undefined;
    /** short names of models; see {@link resolveAliases} */
    readonly aliases?: ReadonlyMap<string, AliasedModel> | undefined;
    /** what stands below a step's own fields, by model or alias */
    readonly profiles?: ReadonlyMap<string, ModelProfile> | undefined;
    /** stands below the template, above what the step type says */
    readonly retry?: RetrySettings | undefined;
  };
}

export type Compiled = { readonly plan: Plan } | { readonly faults: readonly SubmissionFault[] };

/**
 * Makes the plan of a task: parameters checked, what depends on them alone rendered, the rest left in `deferred`, each step's input
 * checked against its type, its model, time limit and retry policy settled. The plan refers to nothing; a later edit of the file
 * does not touch it.
 * @param parameters untrusted; copied
 * @returns every fault when there is one; nothing has been stored or started
 */
export function compileTask(template: Template, parameters: unknown, options: CompileOptions): Compiled {
  const checked = checkParameters(template.parameters, parameters, options.match);
  if ('faults' in checked) return checked;
  const faults = limitFaults(options);
  const steps: PlanStep[] = [];
  for (const index of template.steps.keys()) {
    const compiler = new StepCompiler(template, index, checked.values, options);
    const needs = index === 0 ? [] : [template.steps[index - 1]?.id ?? ''];
    steps.push(compiler.compile(needs));
    faults.push(...compiler.faults);
  }
  if (faults.length > 0) return { faults };
  const plan: Plan = { version: 1, template: template.name, templateHash: template.hash, parameters: checked.values, steps };
  const bytes = Buffer.byteLength(JSON.stringify(plan));
  if (bytes > planBytesMax) {
    const expected = `at most ${planBytesMax} bytes once they stand in the steps`;
    return { faults: [{ path: 'parameters', expected, got: `${bytes} bytes`, message: `parameters: expected ${expected}, got ${bytes}` }] };
  }
  return { plan };
}

const bytesPerGb = 1e9;

function limitFaults({ limits, deployment }: CompileOptions): SubmissionFault[] {
  const given = limits?.timeout_seconds;
  if (given === undefined || (given > 0 && given <= deployment.timeoutSecondsMax)) return [];
  const expected = `more than 0 and at most ${deployment.timeoutSecondsMax}`;
  return [{ path: 'limits.timeout_seconds', expected, got: String(given), message: `limits.timeout_seconds: expected ${expected}, got ${given}` }];
}

/** The task's limits in bytes; empty when it sets none. */
function limitsOf(limits: TaskLimits = {}): Pick<PlanStep, 'limits'> {
  const { output_bytes, memory_gb, disk_gb } = limits;
  if (output_bytes === undefined && memory_gb === undefined && disk_gb === undefined) return {};
  return {
    limits: {
      ...(output_bytes !== undefined && { outputBytes: output_bytes }),
      ...(memory_gb !== undefined && { memoryBytes: Math.round(memory_gb * bytesPerGb) }),
      ...(disk_gb !== undefined && { diskBytes: Math.round(disk_gb * bytesPerGb) }),
    },
  };
}

class StepCompiler {
  readonly faults: SubmissionFault[] = [];
  private readonly deferred: Deferred[] = [];
  /** where a string could not be rendered; its absence is not a second fault */
  private readonly failed: YamlPath[] = [];
  private readonly step: TemplateStep;

  private readonly template: Template;
  private readonly index: number;
  private readonly parameters: JsonObject;
  private readonly options: CompileOptions;

  constructor(template: Template, index: number, parameters: JsonObject, options: CompileOptions) {
    this.template = template;
    this.index = index;
    this.parameters = parameters;
    this.options = options;
    this.step = template.steps[index] as TemplateStep;
  }

  compile(needs: readonly string[]): PlanStep {
    const { id, definition, when, onFailure } = this.step;
    const input = (this.render(this.step.input, [], []) ?? {}) as JsonObject;
    const unknown = [...this.deferred.map(({ path }) => path), ...this.failed];
    for (const issue of checkInput(definition.input, input, unknown)) {
      this.fault(issue.key === null ? issue.path : [...issue.path, issue.key], issue.expected, issue.got, issue.text);
    }
    const model = definition.policy.pool === 'model' ? this.modelNeed(input) : undefined;
    if (model) this.settle(input, model);
    if (when !== undefined) this.checkCondition(when);
    return {
      id,
      type: definition.type,
      title: shortened(`step ${this.index + 1}/${this.template.steps.length} ${definition.type}${model ? ` ${model.name}` : ''}`),
      needs,
      pool: definition.policy.pool,
      ...(model && { model }),
      input,
      deferred: this.deferred,
      ...(when !== undefined && { when }),
      startToCloseMs: this.startToCloseMs(),
      ...limitsOf(this.options.limits),
      retry: this.retry(),
      onFailure,
    };
  }

  /** @returns undefined when the value is to be left out */
  private render(value: JsonValue, source: YamlPath, target: YamlPath): JsonValue | undefined {
    if (typeof value === 'string') return hasExpression(value) ? this.renderText(value, source, target) : value;
    if (Array.isArray(value)) {
      const items: JsonValue[] = [];
      for (const [index, item] of value.entries()) {
        const path = [...target, items.length];
        const rendered = this.render(item, [...source, index], path);
        // A deferred item keeps its place with an empty text.
        if (rendered !== undefined) items.push(rendered);
        else if (this.deferred.some((deferred) => pathText(deferred.path) === pathText(path))) items.push('');
      }
      return items;
    }
    if (typeof value !== 'object' || value === null) return value;
    const entries = Object.entries(value).map(([key, item]) => [key, this.render(item, [...source, key], [...target, key])] as const);
    return Object.fromEntries(entries.filter((entry): entry is [string, JsonValue] => entry[1] !== undefined));
  }

  private renderText(text: string, source: YamlPath, target: YamlPath): JsonValue | undefined {
    try {
      if (!namesOutputs(text)) return renderString(text, this.parameters);
      const missing = missingName(analyse(text), this.parameters, ['steps', 'previous']);
      if (missing !== null) throw new TemplateError(`"${missing}" has no value; use the filter default or the test "is defined" where it may be absent`);
      this.deferred.push({ path: target, template: text });
    } catch (error) {
      if (!(error instanceof TemplateError)) throw error;
      this.failed.push(target);
      this.fault(source, 'an expression that can be rendered', 'none', error.message);
    }
    return undefined;
  }

  /** A condition is evaluated when the step enters the line; one over parameters alone is tried now, so that its faults show now. */
  private checkCondition(when: string): void {
    try {
      const missing = missingName(analyse(`{{ ${when} }}`), this.parameters, ['steps', 'previous']);
      if (missing !== null) throw new TemplateError(`"${missing}" has no value; use the test "is defined" where it may be absent`);
      if (!namesOutputs(`{{ ${when} }}`)) holds(when, this.parameters);
    } catch (error) {
      if (!(error instanceof TemplateError)) throw error;
      this.fault(['when'], 'an expression that can be evaluated', 'none', error.message);
    }
  }

  private modelNeed(input: JsonObject): ModelNeed | undefined {
    const { model, options } = input;
    if (typeof model !== 'string') return undefined; // the step's schema has said so
    const { aliases, allowedRegistries, numCtx } = this.options.deployment;
    const aliased = aliases?.get(model);
    const parsed = aliased ?? parseModelName(model, allowedRegistries);
    if ('problem' in parsed) {
      const said = this.faults.some(({ message }) => message.includes(parsed.problem));
      if (!said) this.fault(['model'], 'the name of a model', describeValue(model), parsed.problem);
      return undefined;
    }
    const asked = typeof options === 'object' && options !== null && !Array.isArray(options) ? options['num_ctx'] : undefined;
    const fromProfile = this.profilesOf(parsed.name, model).find(({ options: own }) => own?.num_ctx !== undefined)?.options?.num_ctx;
    return {
      name: parsed.name,
      numCtx: typeof asked === 'number' ? asked : (fromProfile ?? numCtx),
      ...(aliased === undefined ? {} : { alias: model }),
      ...(parsed.digest === null ? {} : { digest: parsed.digest }),
    };
  }

  /** Writes into the input what the slot is chosen by, so that the step asks the server for nothing else. */
  private settle(input: JsonObject, model: ModelNeed): void {
    input['model'] = model.digest === undefined ? model.name : `${model.name}@${model.digest}`;
    const { options } = input;
    const { shape } = this.step.definition.input;
    const [first, second] = this.profilesOf(model.name, model.alias);
    const system = first?.system ?? second?.system;
    // Messages of a chat bring their own instructions.
    if (system !== undefined && Object.hasOwn(shape, 'system') && (input['system'] === undefined || input['system'] === null)) input['system'] = system;
    if (!Object.hasOwn(shape, 'options')) return;
    const own = options === undefined ? {} : options;
    if (typeof own !== 'object' || own === null || Array.isArray(own)) return;
    const wanted = { ...second?.options, ...first?.options, ...own, num_ctx: model.numCtx };
    // A step type that takes only some of them gets only those.
    const taken = optionNames(shape['options']);
    input['options'] = Object.fromEntries(
      Object.entries(wanted).filter(([name]) => Object.hasOwn(own, name) || taken === null || taken.has(name)),
    ) as JsonObject;
  }

  /** What the deployment sets for a model: that of the alias it was asked for by, then that of its name. */
  private profilesOf(name: string, alias: string | undefined): ModelProfile[] {
    const { profiles } = this.options.deployment;
    return [...new Set([alias, name])].flatMap((key) => (key === undefined ? [] : (profiles?.get(key) ?? [])));
  }

  private startToCloseMs(): number {
    const { timeoutSecondsMax, timeoutSeconds = timeoutSecondsMax } = this.options.deployment;
    const own = this.step.timeoutSeconds;
    if (own !== undefined && own > timeoutSecondsMax)
      this.fault(['timeout_seconds'], `at most ${timeoutSecondsMax}`, String(own), `expected at most ${timeoutSecondsMax}, got ${own}`);
    const taskSeconds = this.options.limits?.timeout_seconds ?? timeoutSecondsMax;
    return Math.round(
      Math.min(own === undefined ? Math.min(this.step.definition.policy.startToCloseMs, timeoutSeconds * 1000) : own * 1000, taskSeconds * 1000),
    );
  }

  private retry(): RetryPolicy {
    const { policy } = this.step.definition;
    const levels = [this.step.retry, this.options.retry, this.template.retry, this.options.deployment.retry, retryDefaults] as const;
    const first = <K extends keyof RetrySettings>(key: K): RetrySettings[K] | undefined => {
      for (const level of levels as readonly (RetrySettings | undefined)[]) if (level?.[key] !== undefined) return level[key];
      return undefined;
    };
    const attempts = this.step.onFailure === 'retry' ? (first('max_attempts') ?? policy.attempts) : (this.step.retry?.max_attempts ?? 1);
    const initialIntervalMs = (first('initial_interval_seconds') ?? retryDefaults.initial_interval_seconds) * 1000;
    const maximumIntervalMs = (first('max_interval_seconds') ?? retryDefaults.max_interval_seconds) * 1000;
    return {
      maximumAttempts: attempts,
      initialIntervalMs,
      backoffCoefficient: first('backoff_coefficient') ?? retryDefaults.backoff_coefficient,
      // A wait asked for first is not cut by a bound that another level had for shorter ones.
      maximumIntervalMs: Math.max(initialIntervalMs, maximumIntervalMs),
      nonRetryable: [...new Set([...(policy.nonRetryable ?? []), ...(first('non_retryable_errors') ?? [])])],
    };
  }

  private fault(path: YamlPath, expected: string, got: string, text: string): void {
    const { id } = this.step;
    const { file, line, column } = this.template.yaml.at(['steps', this.index, ...path]);
    const field = pathText(path);
    const parameters = this.parametersOf(path);
    const from = parameters.length === 0 ? '' : ` (parameter${parameters.length > 1 ? 's' : ''} ${parameters.map((name) => `"${name}"`).join(', ')})`;
    this.faults.push({
      path: parameters.length === 1 ? `parameters.${parameters[0]}` : `steps.${id}.${field}`,
      expected,
      got,
      message: `${file}:${line}:${column}: step "${id}", field "${field}"${from}: ${text}`,
    });
  }

  /** The parameters that the strings at, above or below a path name. */
  private parametersOf(path: YamlPath): string[] {
    const field: JsonValue | undefined = path[0] === 'when' ? `{{ ${this.step.when ?? ''} }}` : this.step.input[String(path[0])];
    const declared = this.template.parameters.map(({ name }) => name);
    const names = new Set<string>();
    const collect = (value: JsonValue | undefined, rest: YamlPath): void => {
      if (typeof value === 'string') for (const reference of analyse(value)?.references ?? []) names.add(String(reference.path[0]));
      else if (typeof value === 'object' && value !== null) {
        const part = rest[0];
        const inner = part === undefined ? undefined : (value as Record<string | number, JsonValue>)[part];
        if (inner !== undefined) collect(inner, rest.slice(1));
        else for (const item of Object.values(value)) collect(item, []);
      }
    };
    collect(field, path.slice(1));
    return declared.filter((name) => names.has(name));
  }
}

/** Whether a string has to wait for outputs of earlier steps. One that the parser cannot read waits when it may. */
function namesOutputs(text: string): boolean {
  const analysis = analyse(text);
  if (!analysis) return /\b(steps|previous)\b/.test(text);
  return analysis.references.some(({ path }) => path[0] === 'steps' || path[0] === 'previous');
}

/** The options that a step type takes; null when that cannot be told. */
function optionNames(schema: unknown): ReadonlySet<string> | null {
  const inner = schema instanceof z.ZodOptional ? schema.unwrap() : schema;
  return inner instanceof z.ZodObject ? new Set(fieldNames(inner)) : null;
}

function shortened(title: string): string {
  let text = title;
  while (Buffer.byteLength(text) > titleBytesMax) text = text.slice(0, -1);
  return text;
}
