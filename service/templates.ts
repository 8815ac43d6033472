import { ProblemError } from '../contract/problems.js';
import type { JsonObject } from '../contract/json.js';
import type { TemplateDetailView, TemplateListView, TemplateSummaryView, TemplateVerdictView } from '../contract/schemas/template-view.js';
import type { BrokenFile, CatalogueEntry } from '../templates/catalogue.js';
import { exampleCalls, modelText, resultFields, templateDocs } from '../templates/docs.js';
import type { TemplateFault } from '../templates/fault.js';
import { exampleParameters, formOf, parametersSchema } from '../templates/form.js';
import { parseTemplate, type StepRegistry, type Template } from '../templates/parse-template.js';
import { templateSchema } from '../templates/schema.js';
import type { CatalogueNow } from './compile-request.js';
import { matchesFor, type PatternThread } from './pattern-thread.js';

export interface TemplateUseCases {
  /** Every template by name, and the files that give none. */
  listTemplates(): TemplateListView;
  /** @throws {ProblemError} unknown_template */
  getTemplate(name: string): TemplateDetailView;
  /** The page of a template, in Markdown. @throws {ProblemError} unknown_template */
  templateDocs(name: string): string;
  /** JSON Schema of a template's file, for editors. */
  templateSchema(): JsonObject;
  /** What is wrong with a text as a template. Stores, renders and runs nothing. @throws {ProblemError} unavailable while too many are checked */
  validateTemplate(yaml: string, fileName: string): Promise<TemplateVerdictView>;
}

export function templateUseCases(catalogue: CatalogueNow, registry: StepRegistry, patterns: PatternThread): TemplateUseCases {
  const found = (name: string): CatalogueEntry => {
    const entry = catalogue().get(name);
    if (entry !== undefined) return entry;
    const near = catalogue().suggest(name);
    throw new ProblemError('unknown_template', `There is no template of this name${near === undefined ? '.' : `; did you mean "${near}"?`}`);
  };
  return {
    listTemplates: () => ({ items: catalogue().list().map(summaryOf), broken: catalogue().broken.map(brokenView) }),
    getTemplate(name) {
      const entry = found(name);
      const { template } = entry;
      return {
        ...summaryOf(entry),
        steps: template.steps.map((step) => ({
          id: step.id,
          type: step.definition.type,
          summary: step.definition.summary,
          model: modelText(step),
          when: step.when ?? null,
          on_failure: step.onFailure,
        })),
        result: resultFields(template),
        parameters_schema: parametersSchema(template),
        form: formOf(template),
        example_request: { template: template.name, parameters: exampleParameters(template) },
        example_calls: exampleCalls(template),
        yaml: template.yaml.text,
      };
    },
    templateDocs(name) {
      const { template, source } = found(name);
      return templateDocs(template, source);
    },
    templateSchema: () => templateSchema(registry),
    async validateTemplate(yaml, fileName) {
      const { first, match } = await matchesFor(patterns, (noted) => parseTemplate(fileName, yaml, registry, noted));
      const parsed = match === undefined ? first : parseTemplate(fileName, yaml, registry, match);
      if ('faults' in parsed) return { valid: false, faults: parsed.faults.map(faultView), warnings: [], template: null };
      const { template } = parsed;
      const present = catalogue().get(template.name);
      const warnings =
        present === undefined || present.template.hash === template.hash
          ? []
          : [`A ${present.source} template is named "${template.name}"; a file of this name beside it would be refused.`];
      const { source: _source, stale: _stale, ...rest } = summaryOf({ template, source: 'local', stale: null });
      return { valid: true, faults: [], warnings, template: rest };
    },
  };
}

function summaryOf({ template, source, stale }: Pick<CatalogueEntry, 'template' | 'source' | 'stale'>): TemplateSummaryView {
  return { ...plain(template), source, stale: stale?.map(faultView) ?? null };
}

function plain({ name, description, hash, parameters, steps }: Template) {
  const models = steps.map(modelText).filter((model) => model !== null && !/\{[{%#]/.test(model));
  return {
    name,
    description,
    hash,
    parameters: [...parameters],
    step_types: steps.map(({ definition }) => definition.type),
    models: [...new Set(models as string[])],
  };
}

/** Where a file lies on the server is nobody's business; its name says enough. */
function brokenView({ file, faults }: BrokenFile) {
  return { file: file.slice(file.lastIndexOf('/') + 1), faults: faults.map(faultView) };
}

function faultView({ allowed, ...fault }: TemplateFault) {
  return { ...fault, ...(allowed === undefined ? {} : { allowed: [...allowed] }) };
}
