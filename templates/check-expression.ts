import type { StepDefinition } from '../activities/steps/define-step.js';
import { analyse, type Reference } from './expression.js';
import { templateFault, type TemplateFault, type YamlPath } from './fault.js';
import { fieldNames } from './issues.js';
import { isKnown, syntaxProblem } from './jinja.js';
import { suggestion } from './nearest.js';
import type { Yaml } from './yaml.js';

/** A step as the expressions of later ones see it. */
export interface StepScope {
  readonly id: string;
  /** undefined when its type is not known */
  readonly definition: StepDefinition | undefined;
  /** it may be skipped, so that it has no output */
  readonly optional: boolean;
}

export interface ExpressionPlace {
  readonly yaml: Yaml;
  readonly path: YamlPath;
  readonly source: string;
  readonly parameters: readonly string[];
  readonly steps: readonly StepScope[];
  /** which step the string belongs to */
  readonly index: number;
  /** it has to be known at submission, since it says which model is needed */
  readonly fixed: boolean;
}

/** What can be said about a string without values: syntax, names, filters, steps before it and the fields of their outputs. */
export function checkExpression(place: ExpressionPlace): TemplateFault[] {
  const { yaml, path, source, steps, index } = place;
  const step = steps[index]?.id ?? null;
  const field = path.slice(2).join('.');
  const fault = (word: string | null, text: string, allowed?: readonly string[]) =>
    templateFault(word === null ? yaml.at(path) : yaml.atWord(path, word), `${field}: ${text}`, { step, path, ...(allowed && { allowed }) });

  const syntax = syntaxProblem(source);
  if (syntax) return [fault(null, `${syntax.message}${syntax.line !== null && syntax.line > 1 ? ` (line ${syntax.line} of the text)` : ''}`)];
  const analysis = analyse(source);
  if (!analysis) {
    // The renderer has no loader, so such a statement could only fail later or, with `ignore missing`, say nothing.
    const statement = !/\{%-?\s*raw/.test(source) && /\{%-?\s*(include|import|from|extends)\b/.exec(source);
    if (statement) return [fault(null, `{% ${statement[1]} %} is not available: a template stands for itself`)];
    return place.fixed && /\b(steps|previous)\b/.test(source) ? [fault(null, laterOnly)] : [];
  }
  const faults = analysis.references.flatMap((reference) => referenceFault(place, reference, fault) ?? []);
  for (const name of analysis.filters) if (!isKnown('filter', name)) faults.push(fault(name, `unknown filter "${name}"`));
  for (const name of analysis.tests) if (!isKnown('test', name)) faults.push(fault(name, `unknown test "${name}"`));
  return faults;
}

const laterOnly = 'may name parameters only: which model a step needs has to be known when the task is submitted';

type MakeFault = (word: string | null, text: string, allowed?: readonly string[]) => TemplateFault;

function referenceFault(place: ExpressionPlace, { path, required }: Reference, fault: MakeFault): TemplateFault | null {
  const { parameters, steps, index } = place;
  const root = String(path[0]);
  const earlier = steps.slice(0, index);
  const ids = earlier.map((step) => step.id);
  if ((root === 'steps' || root === 'previous') && place.fixed) return fault(root, laterOnly);
  if (root === 'previous') {
    const before = earlier.at(-1);
    if (!before) return fault(root, 'the first step has no previous one');
    return before.optional || !required ? null : outputFault(before, path[1], 'previous', fault);
  }
  if (root === 'steps') {
    const id = path[1];
    if (id === undefined) return null;
    const step = earlier.find((candidate) => candidate.id === id);
    if (step) return required ? outputFault(step, path[2], `steps.${id}`, fault) : null;
    if (steps.some((candidate) => candidate.id === id)) return fault(`steps.${id}`, `step "${id}" does not come before this one`, ids);
    return fault(`steps.${id}`, `unknown step "${id}"${suggestion(String(id), ids)}; steps before this one: ${ids.join(', ') || 'none'}`, ids);
  }
  if (parameters.includes(root)) return null;
  const declared = parameters.length === 0 ? 'the template declares no parameters' : `declared parameters: ${parameters.join(', ')}`;
  return fault(root, `"${root}" is not declared${suggestion(root, parameters)}; ${declared}`, parameters);
}

function outputFault(step: StepScope, field: string | number | undefined, name: string, fault: MakeFault): TemplateFault | null {
  const output = step.definition?.output;
  if (field === undefined || !output || output.def.catchall) return null;
  const fields = fieldNames(output);
  if (fields.includes(String(field))) return null;
  return fault(`${name}.${field}`, `step "${step.id}" has no output "${field}"${suggestion(String(field), fields)}; it has ${fields.join(', ')}`, fields);
}
