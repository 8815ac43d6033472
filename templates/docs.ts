import { z } from 'zod';
import type { StepDefinition } from '../activities/steps/define-step.js';
import type { JsonObject, JsonValue } from '../contract/json.js';
import type { ParameterDeclaration } from '../contract/schemas/template.js';
import { exampleParameters } from './form.js';
import type { Template } from './parse-template.js';

/** The page of a template, in Markdown: what it is for, its parameters, its steps, how to submit it, and what comes out. */
export function templateDocs(template: Template, source: string): string {
  const { name, description, parameters, steps } = template;
  const calls = exampleCalls(template);
  const last = steps.at(-1);
  return page([
    `# ${name}`,
    description,
    `Source: ${source}. Hash: \`${template.hash.slice(0, 12)}\`.`,
    '## Parameters',
    parameters.length === 0
      ? 'None.'
      : table(
          ['name', 'type', 'required', 'default', 'allowed', 'description'],
          parameters.map((declaration) => [
            `\`${declaration.name}\``,
            declaration.type,
            declaration.required ? 'yes' : 'no',
            declaration.default === undefined ? '' : code(declaration.default as JsonValue),
            allowedOf(declaration),
            declaration.description ?? '',
          ]),
        ),
    '## Steps',
    table(
      ['#', 'id', 'type', 'what it does', 'model', 'when', 'on failure'],
      steps.map((step, index) => [
        String(index + 1),
        `\`${step.id}\``,
        `[${step.definition.type}](../step-types.md#${step.definition.type})`,
        step.definition.summary,
        modelText(step) === null ? '' : code(modelText(step) as string),
        step.when === undefined ? '' : code(step.when),
        step.onFailure === 'retry' ? 'tried again, then the task fails' : step.onFailure === 'skip' ? 'skipped' : 'the task fails at once',
      ]),
    ),
    '## Submit it',
    fenced('sh', calls.cli),
    'or over HTTP:',
    fenced('sh', calls.curl),
    '## Result',
    last === undefined ? '' : `The output of \`${last.id}\`, and under \`steps\` the output of each step by its id.`,
    last === undefined ? '' : fieldsTable(last.definition.output, 'output'),
    ...(last === undefined || fieldsOf(last.definition.output, 'output').length > 0 ? [] : ['It may have any field.']),
  ]);
}

/** How to submit a template with its example parameters: by the command line, and over HTTP with the variables `API` and `ORCHESTRA_KEY`. */
export function exampleCalls(template: Template): { readonly cli: string; readonly curl: string } {
  const { name } = template;
  const parameters = exampleParameters(template);
  const options = Object.entries(parameters).map(([key, value]) => ` \\\n  -p ${key}=${shellWord(value)}`);
  return {
    cli: `npx orchestra submit ${name}${options.join('')} --wait`,
    curl: `curl -s $API/tasks -H "X-API-Key: $ORCHESTRA_KEY" -H 'content-type: application/json' -d ${shellQuote(JSON.stringify({ template: name, parameters }, null, 2))}`,
  };
}

/** The model of a step as its author wrote it, expressions included; null: it names none. */
export function modelText({ input }: Pick<Template['steps'][number], 'input'>): string | null {
  return typeof input['model'] === 'string' ? input['model'] : null;
}

/** A field of what a step gives. */
export interface OutputField {
  readonly name: string;
  readonly type: string;
  /** whether every output has it */
  readonly always: boolean;
  readonly description: string;
}

/** What the last step of a template gives, and with it the task; empty: it may be anything. */
export function resultFields({ steps }: Pick<Template, 'steps'>): OutputField[] {
  const last = steps.at(-1);
  if (last === undefined) return [];
  return fieldsOf(last.definition.output, 'output').map(({ name, type, required, description }) => ({ name, type, always: required, description }));
}

/** The page of all step types, from their schemas. */
export function stepTypesDocs(registry: readonly StepDefinition[]): string {
  const settings = 'Every step may also have `id`, `when`, `retry`, `timeout_seconds` and `on_failure`; the guide to templates tells of them.';
  return page(['# Step types', settings, ...registry.flatMap(stepTypeDocs)]);
}

function stepTypeDocs({ type, summary, policy, input, output, example }: StepDefinition): string[] {
  const minutes = policy.startToCloseMs / 60_000;
  return [
    `## ${type}`,
    summary,
    `Runs ${policy.pool === 'model' ? 'on its model, once that is loaded' : 'without a model'}; one attempt takes at most ${minutes} minutes, and there ${policy.attempts === 1 ? 'is 1 attempt' : `are ${policy.attempts} attempts`} unless something else is said.`,
    fenced('yaml', example),
    '**Fields**',
    fieldsTable(input, 'input'),
    '**Output**',
    fieldsTable(output, 'output'),
  ];
}

interface Field {
  readonly name: string;
  readonly type: string;
  readonly required: boolean;
  readonly fallback: string;
  readonly description: string;
}

function fieldsTable(schema: z.ZodObject, io: 'input' | 'output'): string {
  const fields = fieldsOf(schema, io);
  if (fields.length === 0) return '';
  return io === 'input'
    ? table(
        ['field', 'type', 'required', 'default', 'description'],
        fields.map(({ name, type, required, fallback, description }) => [`\`${name}\``, type, required ? 'yes' : 'no', fallback, description]),
      )
    : table(
        ['field', 'type', 'always', 'description'],
        fields.map(({ name, type, required, description }) => [`\`${name}\``, type, required ? 'yes' : 'no', description]),
      );
}

function fieldsOf(schema: z.ZodObject, io: 'input' | 'output'): Field[] {
  return fieldsIn(z.toJSONSchema(schema, { io, unrepresentable: 'any' }) as ObjectSchema, '');
}

interface ObjectSchema {
  readonly properties?: Readonly<Record<string, JsonObject>>;
  readonly required?: readonly string[];
}

/** The fields of an object; those of objects in a list follow it, as `list[].field`. */
function fieldsIn({ properties = {}, required = [] }: ObjectSchema, before: string): Field[] {
  return Object.entries(properties).flatMap(([name, field]) => [
    {
      name: `${before}${name}`,
      type: typeOf(field),
      required: required.includes(name),
      fallback: field['default'] === undefined ? '' : code(field['default']),
      description: typeof field['description'] === 'string' ? field['description'] : '',
    },
    ...(field['type'] === 'array' && isObject(field['items']) ? fieldsIn(field['items'], `${before}${name}[].`) : []),
  ]);
}

function isObject(value: unknown): value is ObjectSchema {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function typeOf(field: JsonObject): string {
  if (Array.isArray(field['enum'])) return field['enum'].map((value) => code(value)).join(', ');
  if (field['const'] !== undefined) return code(field['const']);
  const any = field['anyOf'] ?? field['oneOf'];
  if (Array.isArray(any)) return [...new Set(any.flatMap((option) => typeOf(option as JsonObject).split(' or ')))].join(' or ');
  if (field['type'] === 'array')
    return `list of ${typeof field['items'] === 'object' && field['items'] !== null ? typeOf(field['items'] as JsonObject) : 'anything'}`;
  return typeof field['type'] === 'string' ? field['type'] : 'anything';
}

function allowedOf({ type, enum: values, min, max, pattern }: ParameterDeclaration): string {
  const unit = type === 'string' ? ' characters' : type === 'array' ? ' items' : '';
  return [
    ...(values === undefined ? [] : [values.map((value) => code(value)).join(', ')]),
    ...(min === undefined ? [] : [`at least ${min}${unit}`]),
    ...(max === undefined ? [] : [`at most ${max}${unit}`]),
    ...(pattern === undefined ? [] : [`matches ${code(pattern)}`]),
  ].join('; ');
}

function page(parts: readonly string[]): string {
  return `${parts.filter((part) => part !== '').join('\n\n')}\n`;
}

function table(head: readonly string[], rows: readonly (readonly string[])[]): string {
  const line = (cells: readonly string[]) => `| ${cells.map(cell).join(' | ')} |`;
  return [line(head), `|${head.map(() => '---').join('|')}|`, ...rows.map(line)].join('\n');
}

/** A bar would end the cell, and a line break the table. */
function cell(text: string): string {
  return text.replaceAll(/\s*\n\s*/g, ' ').replaceAll('|', '\\|');
}

function code(value: JsonValue): string {
  const text = typeof value === 'string' ? value : JSON.stringify(value);
  const fence = text.includes('`') ? '``' : '`';
  return `${fence}${text.length > 120 ? `${text.slice(0, 117)}...` : text}${fence}`;
}

function fenced(language: string, text: string): string {
  const fence = text.includes('```') ? '````' : '```';
  return `${fence}${language}\n${text}\n${fence}`;
}

function shellWord(value: JsonValue): string {
  return shellQuote(typeof value === 'string' ? value : JSON.stringify(value));
}

function shellQuote(text: string): string {
  return `'${text.replaceAll("'", `'\\''`)}'`;
}
