import type { JsonObject, JsonValue } from '../contract/json.js';
import type { ParameterDeclaration } from '../contract/schemas/template.js';
import type { Template } from './parse-template.js';

/** How a person is asked for a parameter. */
export const widgets = ['text', 'textarea', 'number', 'checkbox', 'select', 'list', 'json', 'model', 'files'] as const;
export type Widget = (typeof widgets)[number];

/** One parameter as a form shows it. */
export interface FormField extends ParameterDeclaration {
  readonly label: string;
  readonly widget: Widget;
}

/** The parameters of a template as the fields of a form, in their order. */
export function formOf(template: Template): FormField[] {
  return template.parameters.map((declaration) => ({ ...declaration, label: labelOf(declaration.name), widget: widgetOf(template, declaration) }));
}

/** The parameters of a template as JSON Schema (draft 2020-12). */
export function parametersSchema({ parameters }: Pick<Template, 'parameters'>): JsonObject {
  const required = parameters.filter((declaration) => declaration.required).map(({ name }) => name);
  return {
    $schema: 'https://json-schema.org/draft/2020-12/schema',
    type: 'object',
    properties: Object.fromEntries(parameters.map((declaration) => [declaration.name, schemaOf(declaration)])),
    ...(required.length > 0 ? { required } : {}),
    additionalProperties: false,
  };
}

/** Parameters that make sense to a reader: defaults where there are any, else something of the right kind. Optional ones without a default are left out. */
export function exampleParameters(template: Template): JsonObject {
  return Object.fromEntries(
    template.parameters
      .filter(({ required, default: fallback }) => required || fallback !== undefined)
      .map((declaration) => [declaration.name, exampleOf(declaration, widgetOf(template, declaration))]),
  );
}

function schemaOf({ type, description, enum: values, min, max, pattern, default: fallback }: ParameterDeclaration): JsonObject {
  const [least, most] = type === 'string' ? ['minLength', 'maxLength'] : type === 'array' ? ['minItems', 'maxItems'] : ['minimum', 'maximum'];
  return {
    type,
    ...(description === undefined ? {} : { description }),
    ...(values === undefined ? {} : { enum: values }),
    ...(min === undefined ? {} : { [least as string]: min }),
    ...(max === undefined ? {} : { [most as string]: max }),
    ...(pattern === undefined ? {} : { pattern }),
    ...(fallback === undefined ? {} : { default: fallback as JsonValue }),
  };
}

/** `repo_url` -> "Repo url". */
function labelOf(name: string): string {
  const words = name.replaceAll('_', ' ').trim();
  return words.charAt(0).toUpperCase() + words.slice(1);
}

/** Names of parameters that hold more than a line. */
const longText = /(^|_)(prompt|text|instructions?|content|body|notes?|question|message|system|criteria|context|examples?)(_|$)/;

function widgetOf(template: Template, { name, type, enum: values, max }: ParameterDeclaration): Widget {
  if (values !== undefined) return 'select';
  switch (type) {
    case 'integer':
    case 'number':
      return 'number';
    case 'boolean':
      return 'checkbox';
    case 'array':
      return fieldOf(template, name, ['files', 'images']) ? 'files' : 'list';
    case 'object':
      return 'json';
    case 'string':
      if (fieldOf(template, name, ['model'])) return 'model';
      return longText.test(name) && (max === undefined || max > 200) ? 'textarea' : 'text';
  }
}

/** Whether a parameter is, as a whole, one of these fields of a step. */
function fieldOf({ steps }: Template, parameter: string, fields: readonly string[]): boolean {
  const whole = new RegExp(`^\\{\\{\\s*${parameter}\\s*\\}\\}$`);
  return steps.some(({ input }) => fields.some((field) => typeof input[field] === 'string' && whole.test(input[field])));
}

function exampleOf({ name, type, enum: values, min, default: fallback }: ParameterDeclaration, widget: Widget): JsonValue {
  if (fallback !== undefined) return fallback as JsonValue;
  if (values !== undefined) return values[0] as JsonValue;
  switch (widget) {
    case 'model':
      return 'llama3.2:1b';
    case 'files':
      return ['notes.txt'];
    case 'number':
      return min ?? 1;
    case 'checkbox':
      return true;
    case 'list':
      return [`a ${name.replaceAll('_', ' ')}`];
    case 'json':
      return {};
    default:
      return /url|repo/.test(name) && type === 'string' ? 'https://example.com/repository.git' : `the ${name.replaceAll('_', ' ')}`;
  }
}
