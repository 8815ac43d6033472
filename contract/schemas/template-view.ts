import { z } from 'zod';
import { onFailures } from '../plan.js';
import { JsonObjectSchema } from './json-value.js';
import { ParameterDeclaration } from './template.js';

/** Where a template comes from: shipped with the product, shipped as an example of the community, or a file of this installation. */
export const templateSources = ['built-in', 'community', 'local'] as const;

export const TemplateFaultSchema = z
  .object({
    file: z.string(),
    line: z.int(),
    column: z.int(),
    step: z.string().nullable(),
    path: z.string().meta({ description: 'Where in the file, such as `steps[1].model`' }),
    message: z.string().meta({ description: 'The whole sentence, beginning with file:line:column' }),
    allowed: z.array(z.string()).optional().meta({ description: 'What may stand there' }),
  })
  .meta({
    id: 'TemplateFault',
    description: 'Something that is wrong with the file of a template',
    example: {
      file: 'review.yaml',
      line: 4,
      column: 5,
      step: 'review',
      path: 'steps[0].model',
      message: 'review.yaml:4:5: step "review": model: is missing; expected string',
    },
  });

// Any JSON; the declaration's own schema of it is recursive, which the document cannot show.
const Parameter = ParameterDeclaration.extend({ default: z.unknown().optional() }).meta({
  id: 'Parameter',
  description: 'A parameter as its template declares it',
});

const summary = {
  name: z.string(),
  description: z.string(),
  source: z.enum(templateSources),
  hash: z.string().meta({ description: 'SHA-256 of the file’s text' }),
  parameters: z.array(Parameter),
  step_types: z.array(z.string()).meta({ description: 'Types of its steps, in their order' }),
  models: z.array(z.string()).meta({ description: 'Models that it names itself, each once; those that come from parameters are not among them' }),
  stale: z
    .array(TemplateFaultSchema)
    .nullable()
    .meta({ description: 'Faults of the file as it is now; the template is served as it was before them. Null: it is current' }),
};
const summaryExample = {
  name: 'ollama-inference',
  description: 'Run inference with specified model and prompt',
  source: 'built-in' as const,
  hash: '6f1ed002ab5595859014ebf0951522d9a3f1c1b1d0a1d2e5b5f6f3e7a8c9d0e1',
  parameters: [{ name: 'model', type: 'string' as const, required: true }],
  step_types: ['ollama_generate'],
  models: [],
  stale: null,
};

export const TemplateSummary = z.object(summary).meta({ id: 'TemplateSummary', description: 'A template in a list', example: summaryExample });
export type TemplateSummaryView = z.output<typeof TemplateSummary>;

export const TemplateList = z
  .object({
    items: z.array(TemplateSummary),
    broken: z.array(z.object({ file: z.string(), faults: z.array(TemplateFaultSchema) })).meta({ description: 'Files that give no template' }),
  })
  .meta({ id: 'TemplateList', description: 'Every template by name, and the files that give none' });

export type TemplateListView = z.output<typeof TemplateList>;

export const TemplateDetail = z
  .object({
    ...summary,
    steps: z.array(
      z.object({
        id: z.string(),
        type: z.string(),
        summary: z.string(),
        model: z.string().nullable().meta({ description: 'As the template has it, expressions included; null: it names none' }),
        when: z.string().nullable(),
        on_failure: z.enum(onFailures),
      }),
    ),
    result: z
      .array(z.object({ name: z.string(), type: z.string(), always: z.boolean(), description: z.string() }))
      .meta({ description: 'Fields of what its last step gives; empty: it may be anything' }),
    parameters_schema: JsonObjectSchema.meta({ description: 'JSON Schema of the parameters' }),
    form: z
      .array(Parameter.extend({ label: z.string(), widget: z.enum(['text', 'textarea', 'number', 'checkbox', 'select', 'list', 'json', 'model', 'files']) }))
      .meta({ description: 'The parameters as the fields of a form' }),
    example_request: z.object({ template: z.string(), parameters: JsonObjectSchema }),
    example_calls: z
      .object({ cli: z.string(), curl: z.string() })
      .meta({ description: 'The same as a command line and as a call with curl, which takes the variables `API` and `ORCHESTRA_KEY`' }),
    yaml: z.string().meta({ description: 'The file' }),
  })
  .meta({ id: 'Template', description: 'A template and all that is known of it' });
export type TemplateDetailView = z.output<typeof TemplateDetail>;

export const ValidateTemplate = z
  .strictObject({
    yaml: z.string().max(262_144),
    file_name: z
      .string()
      .max(255)
      // Spelt out, since not every reader of the OpenAPI document knows \\p and the flag that it needs.
      .regex(/^[^\x00-\x1f\x7f-\x9f/\\]+$/, { error: 'expected the name of a file, without a folder' })
      .default('template.yaml'),
  })
  .meta({
    id: 'ValidateTemplate',
    description: 'A template to check',
    example: { yaml: 'name: hello\nsteps:\n  - { type: ollama_generate, model: "llama3.2:1b", prompt: Hello }\n' },
  });

export const TemplateVerdict = z
  .object({
    valid: z.boolean(),
    faults: z.array(TemplateFaultSchema),
    warnings: z.array(z.string()).meta({ description: 'What is no fault of the file, such as a name that another template has' }),
    template: TemplateSummary.omit({ source: true, stale: true }).nullable(),
  })
  .meta({ id: 'TemplateVerdict', description: 'What is wrong with a template, or what it is' });
export type TemplateVerdictView = z.output<typeof TemplateVerdict>;
