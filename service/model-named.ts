import { parseModelName } from '../contract/model-name.js';
import { ProblemError } from '../contract/problems.js';
import type { Deployment } from './compile-request.js';

export type NamesOfModels = Pick<Deployment, 'aliases' | 'allowedRegistries'>;

const parsedOf = ({ aliases, allowedRegistries }: NamesOfModels, text: string) => aliases?.get(text) ?? parseModelName(text, allowedRegistries);

/** What a filter by a model looks for: the name behind an alias, with its tag; a text that names no model, as it is, since nothing has it. */
export function nameOfModel(deployment: NamesOfModels, text: string): string {
  const parsed = parsedOf(deployment, text);
  return 'problem' in parsed ? text : parsed.name;
}

/**
 * The name of a model that something is to be done with, or that behind an alias.
 * @param path where the request has the text
 * @throws {ProblemError} model_refused
 */
export function namedModel(deployment: NamesOfModels, text: string, path: string): string {
  const parsed = parsedOf(deployment, text);
  if (!('problem' in parsed)) return parsed.name;
  const fault = { path, expected: 'the name of a model, or an alias', got: `text of ${text.length} characters`, message: parsed.problem };
  throw new ProblemError('model_refused', parsed.problem, { errors: [fault] });
}
