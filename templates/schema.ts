import { z } from 'zod';
import type { JsonObject, JsonValue } from '../contract/json.js';
import { stepSettings, TemplateFile } from '../contract/schemas/template.js';
import type { StepRegistry } from './parse-template.js';

/**
 * The JSON Schema (draft 7, which editors understand best) of a template's file, for completion and checks while it is written.
 * `schema.json` is this as text; a test fails when it is stale.
 */
export function templateSchema(registry: StepRegistry): JsonObject {
  const file = jsonSchema(TemplateFile);
  const properties = file['properties'] as JsonObject;
  const steps = properties['steps'] as JsonObject;
  return {
    ...file,
    title: 'AI Task Orchestra template',
    properties: {
      ...properties,
      steps: {
        ...steps,
        items: { type: 'object', required: ['type'], properties: { type: { enum: registry.map(({ type }) => type) } }, allOf: registry.map(conditional) },
      },
    },
  };
}

/** The text of `schema.json`. */
export function templateSchemaText(registry: StepRegistry): string {
  return `${JSON.stringify(templateSchema(registry), null, 2)}\n`;
}

/** `if` the step has this type, `then` its fields: editors complete better with it than with `oneOf`. */
function conditional({ type, summary, input }: StepRegistry[number]): JsonValue {
  const { $schema: _draft, ...fields } = jsonSchema(input);
  const settings = jsonSchema(z.object(stepSettings))['properties'] as JsonObject;
  const own = Object.entries((fields['properties'] ?? {}) as JsonObject).map(([name, schema]) => [name, orExpression(schema)]);
  return {
    if: { properties: { type: { const: type } } },
    then: {
      description: summary,
      properties: { ...settings, ...Object.fromEntries(own), type: { const: type, description: summary } },
      required: ['type', ...((fields['required'] ?? []) as string[])],
      additionalProperties: false,
    },
  };
}

function jsonSchema(schema: z.ZodType): JsonObject {
  return z.toJSONSchema(schema, { io: 'input', target: 'draft-7', unrepresentable: 'any' }) as unknown as JsonObject;
}

/** Any value may be an expression instead, at any depth. */
function orExpression(schema: JsonValue): JsonValue {
  if (typeof schema !== 'object' || schema === null || Array.isArray(schema)) return schema;
  const inner: JsonObject = { ...schema };
  if (inner['items'] !== undefined) inner['items'] = orExpression(inner['items']);
  const properties = inner['properties'];
  if (typeof properties === 'object' && properties !== null && !Array.isArray(properties)) {
    inner['properties'] = Object.fromEntries(Object.entries(properties).map(([name, property]) => [name, orExpression(property)]));
  }
  const { description, ...rest } = inner;
  const anyText = rest['type'] === 'string' && Object.keys(rest).length === 1;
  if (anyText || Object.keys(rest).length === 0) return inner;
  return { ...(description !== undefined && { description }), anyOf: [rest, { type: 'string', pattern: '\\{[{%]' }] };
}
