import { createHash } from 'node:crypto';
import type { StepDefinition } from '../activities/steps/define-step.js';
import type { JsonObject, JsonValue } from '../contract/json.js';
import type { OnFailure } from '../contract/plan.js';
import { ParameterDeclaration, stepSettings, TemplateFile, type RetrySettings } from '../contract/schemas/template.js';
import { checkExpression, type StepScope } from './check-expression.js';
import { builtInNames, wholeExpression } from './expression.js';
import { templateFault, type TemplateFault, type YamlPath } from './fault.js';
import { check, fieldNames } from './issues.js';
import { suggestion } from './nearest.js';
import { declarationFaults, type Match } from './parameters.js';
import { checkInput, expressionsIn } from './step-input.js';
import { inOrder, parseYaml, type Yaml } from './yaml.js';

/** The step types that exist: `steps` of activities/steps/index.ts, or a test's own. */
export type StepRegistry = readonly StepDefinition[];

export interface TemplateStep {
  readonly id: string;
  readonly definition: StepDefinition;
  /** the fields of the step's type as they are written, expressions and all */
  readonly input: JsonObject;
  /** a bare expression */
  readonly when?: string;
  readonly retry?: RetrySettings;
  readonly timeoutSeconds?: number;
  readonly onFailure: OnFailure;
}

/** A template whose file has no fault. Immutable; a changed file gives another one. */
export interface Template {
  readonly name: string;
  readonly description: string;
  readonly parameters: readonly ParameterDeclaration[];
  readonly retry?: RetrySettings;
  readonly steps: readonly TemplateStep[];
  /** SHA-256 of the file's text, hex */
  readonly hash: string;
  readonly file: string;
  /** where its parts stand in the file, for messages */
  readonly yaml: Yaml;
}

export type ParsedTemplate = { readonly template: Template } | { readonly faults: readonly TemplateFault[] };

/** Faults that are told of one file. */
const faultsMax = 100;
const settingNames = Object.keys(stepSettings);

/**
 * Reads a template and checks all that can be known without parameters: schema, step types and their fields, names in expressions,
 * references to other steps. Never throws; safe for text that nobody has checked.
 * @param file its name for messages
 * @param match how the patterns of parameters are tried on their defaults
 * @returns the template, or every fault in the order of the file
 */
export function parseTemplate(file: string, text: string, registry: StepRegistry, match?: Match): ParsedTemplate {
  const parsed = parseYaml(file, text);
  if ('faults' in parsed) return parsed;
  const { yaml } = parsed;
  const value = yaml.value;
  const faults = schemaFaults(yaml);
  const steps = rawSteps(value);
  const ids = stepIds(steps);
  faults.push(...parameterFaults(yaml, match), ...stepFaults(yaml, steps, ids, registry));
  const result = TemplateFile.safeParse(value);
  if (faults.length > 0 || !result.success) return { faults: bounded(inOrder(unique(faults))) };

  const { name, description, parameters, retry } = result.data;
  return {
    template: {
      name,
      description,
      parameters,
      ...(retry && { retry }),
      steps: result.data.steps.map((step, index): TemplateStep => {
        const { type, id: _id, when, retry: stepRetry, timeout_seconds: timeoutSeconds, on_failure: onFailure, ...input } = step;
        return {
          id: ids[index] ?? type,
          definition: registry.find((definition) => definition.type === type) as StepDefinition,
          input: input as JsonObject,
          ...(when !== undefined && { when: bareCondition(when) }),
          ...(stepRetry && { retry: stepRetry }),
          ...(timeoutSeconds !== undefined && { timeoutSeconds }),
          onFailure: onFailure ?? 'retry',
        };
      }),
      hash: createHash('sha256').update(text).digest('hex'),
      file,
      yaml,
    },
  };
}

/** A condition as MiniJinja takes it: `{{ a > 1 }}`, `a > 1` and `true` are all allowed in a file. */
function bareCondition(when: string | boolean): string {
  return typeof when === 'boolean' ? String(when) : (wholeExpression(when) ?? when.trim());
}

function schemaFaults(yaml: Yaml): TemplateFault[] {
  return check(TemplateFile, yaml.value).map((issue) => {
    const at = issue.key === null ? yaml.at(issue.path) : yaml.atKey(issue.path, issue.key);
    const place = pathWords(issue.path);
    return templateFault(at, issue.key === null && place !== '' ? `${place}: ${issue.text}` : issue.text, {
      step: stepAt(yaml.value, issue.path),
      path: issue.path,
      ...(issue.allowed && { allowed: issue.allowed }),
    });
  });
}

/** A path without the part that the message's `step "x"` says already. */
function pathWords(path: YamlPath): string {
  const rest = path[0] === 'steps' && path.length > 2 ? path.slice(2) : path;
  return rest.map((part, index) => (typeof part === 'number' ? `[${part}]` : index === 0 ? part : `.${part}`)).join('');
}

function stepAt(value: JsonValue, path: YamlPath): string | null {
  const index = path[1];
  if (path[0] !== 'steps' || typeof index !== 'number') return null;
  return stepIds(rawSteps(value))[index] ?? `#${index + 1}`;
}

function rawSteps(value: JsonValue): readonly JsonObject[] {
  const steps = isObject(value) ? value['steps'] : undefined;
  return Array.isArray(steps) ? steps.map((step) => (isObject(step) ? step : {})) : [];
}

function isObject(value: JsonValue | undefined): value is JsonObject {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

/** The author's id, else the type, then `<type>_2`; an author's id is never taken by a step without one. */
function stepIds(steps: readonly JsonObject[]): string[] {
  const taken = new Set(steps.map((step) => step['id']).filter((id) => typeof id === 'string'));
  return steps.map((step, index) => {
    if (typeof step['id'] === 'string') return step['id'];
    const type = typeof step['type'] === 'string' ? step['type'] : `#${index + 1}`;
    let id = type;
    for (let number = 2; taken.has(id); number++) id = `${type}_${number}`;
    taken.add(id);
    return id;
  });
}

function declaredParameters(value: JsonValue): readonly JsonValue[] {
  const parameters = isObject(value) ? value['parameters'] : undefined;
  return Array.isArray(parameters) ? parameters : [];
}

function parameterFaults(yaml: Yaml, match: Match | undefined): TemplateFault[] {
  const faults: TemplateFault[] = [];
  const seen = new Set<string>();
  for (const [index, raw] of declaredParameters(yaml.value).entries()) {
    const name = isObject(raw) ? raw['name'] : undefined;
    const path = ['parameters', index, 'name'];
    if (typeof name !== 'string') continue;
    if (seen.has(name)) faults.push(templateFault(yaml.at(path), `parameter "${name}" is declared twice`, { path }));
    if (builtInNames.has(name) || name === 'steps' || name === 'previous')
      faults.push(templateFault(yaml.at(path), `"${name}" has a meaning of its own in expressions; name the parameter otherwise`, { path }));
    seen.add(name);
    const declaration = ParameterDeclaration.safeParse(raw);
    if (!declaration.success) continue;
    const own = declarationFaults(declaration.data, match);
    for (const { key, text } of own) {
      const at = ['parameters', index, key];
      faults.push(templateFault(yaml.at(at), `parameter "${name}": ${text}`, { path: at }));
    }
    if (own.some((fault) => fault.endless)) break;
  }
  return faults;
}

function stepFaults(yaml: Yaml, steps: readonly JsonObject[], ids: readonly string[], registry: StepRegistry): TemplateFault[] {
  const faults: TemplateFault[] = [];
  const types = registry.map((definition) => definition.type);
  const names = declaredParameters(yaml.value).flatMap((raw) => (isObject(raw) && typeof raw['name'] === 'string' ? [raw['name']] : []));
  const parameters = [...new Set(names)];
  const scopes: StepScope[] = steps.map((step, index) => ({
    id: ids[index] ?? '',
    definition: registry.find((definition) => definition.type === step['type']),
    optional: step['when'] !== undefined || step['on_failure'] === 'skip',
  }));
  for (const [index, step] of steps.entries()) {
    const id = ids[index] ?? '';
    const add = (path: YamlPath, text: string, allowed?: readonly string[]) => {
      const full = ['steps', index, ...path];
      faults.push(templateFault(yaml.at(full), text, { step: id, path: full, ...(allowed && { allowed }) }));
    };
    if (typeof step['id'] === 'string' && ids.indexOf(id) !== index) add(['id'], `id "${id}" is used by an earlier step`);
    const { type } = step;
    const definition = scopes[index]?.definition;
    if (typeof type === 'string' && !definition) add(['type'], `unknown step type "${type}"${suggestion(type, types)}; known: ${types.join(', ')}`, types);

    const input = Object.fromEntries(Object.entries(step).filter(([key]) => !settingNames.includes(key)));
    const strings = expressionsIn(input);
    if (definition)
      faults.push(
        ...inputFaults(
          yaml,
          index,
          id,
          definition,
          input,
          strings.map((string) => string.path),
        ),
      );
    faults.push(...keyFaults(yaml, index, id, input));
    for (const { path, source } of strings) {
      const fixed = definition?.policy.pool === 'model' && (path[0] === 'model' || (path[0] === 'options' && (path.length === 1 || path[1] === 'num_ctx')));
      faults.push(...checkExpression({ yaml, path: ['steps', index, ...path], source, parameters, steps: scopes, index, fixed }));
    }
    const { when } = step;
    if (typeof when === 'string') {
      const bare = bareCondition(when);
      if (/\{[{%#]/.test(bare)) add(['when'], 'when: expected one expression, such as previous.exit_code == 0');
      else faults.push(...checkExpression({ yaml, path: ['steps', index, 'when'], source: `{{ ${bare} }}`, parameters, steps: scopes, index, fixed: false }));
    }
  }
  return faults;
}

function inputFaults(yaml: Yaml, index: number, id: string, definition: StepDefinition, input: JsonObject, dynamic: readonly YamlPath[]): TemplateFault[] {
  return checkInput(definition.input, input, dynamic).map((issue) => {
    const path = ['steps', index, ...issue.path];
    const at = issue.key === null ? yaml.at(path) : yaml.atKey(path, issue.key);
    // At the top level of a step its settings may stand beside the fields of its type.
    const allowed = issue.key !== null && issue.path.length === 0 ? [...fieldNames(definition.input), ...settingNames] : issue.allowed;
    const place = issue.path.length === 0 ? `for ${definition.type}` : `in ${pathWords(path)}`;
    const text =
      issue.key !== null && allowed
        ? `unknown key ${JSON.stringify(issue.key)}${suggestion(issue.key, allowed)}; allowed ${place}: ${allowed.join(', ')}`
        : `${pathWords(path)}: ${issue.text}`;
    return templateFault(at, text, { step: id, path, ...(allowed && { allowed }) });
  });
}

function keyFaults(yaml: Yaml, index: number, id: string, value: JsonValue, path: YamlPath = []): TemplateFault[] {
  if (Array.isArray(value)) return value.flatMap((item, at) => keyFaults(yaml, index, id, item, [...path, at]));
  if (!isObject(value)) return [];
  return Object.entries(value).flatMap(([key, item]) => {
    const full = ['steps', index, ...path];
    const own = key.includes('{{')
      ? [templateFault(yaml.atKey(full, key), `key ${JSON.stringify(key)}: expressions may stand in values, not in keys`, { step: id, path: full })]
      : [];
    return [...own, ...keyFaults(yaml, index, id, item, [...path, key])];
  });
}

function bounded(faults: readonly TemplateFault[]): readonly TemplateFault[] {
  const next = faults[faultsMax];
  return next ? [...faults.slice(0, faultsMax), templateFault(next, `and ${faults.length - faultsMax} more faults`)] : faults;
}

function unique(faults: readonly TemplateFault[]): TemplateFault[] {
  return [...new Map(faults.map((fault) => [fault.message, fault])).values()];
}
