import { z } from 'zod';
import { levelMax } from '../../contract/priority.js';
import type { TaskView } from '../../contract/schemas/task.js';
import type { Page } from '../page.js';
import { queryOf } from '../query.js';
import { drawnFields, modelChoices } from '../task-form.js';

const Query = z.object({ from: z.string().max(100).optional() });

/** Models that are offered as buttons; all of them are offered while one types. */
const modelsShown = 8;

/** What a template is for, and the form that submits it; `?from=<task id>` fills it in with what a task was given. */
export const templatePage: Page = {
  path: '/templates/:name',
  nav: 'templates',
  access: 'read',
  view: 'template',
  live: [],
  scripts: ['commands.js', 'template.js'],
  async load({ caller, services, config, url, param }) {
    const { from } = queryOf(Query, url);
    const template = services.getTemplate(param('name'));
    const [models, task] = await Promise.all([services.listModels(), from === undefined ? null : services.getTask(caller, from)]);
    const choices = modelChoices(models);
    return {
      title: template.name,
      data: {
        template,
        fields: drawnFields(template.form, task?.parameters ?? {}, choices),
        models: choices,
        modelsShown,
        noModel: models.items.length === 0,
        from: task,
        lost: task === null ? [] : lostParameters(task, template.form),
        mayWrite: caller.role !== 'viewer',
        levels: Array.from({ length: levelMax }, (_, index) => levelMax - index),
        calls: callsFor(template.example_calls, { origin: url.origin, apiKeyHeader: config.apiKeyHeader }),
      },
    };
  },
};

/** Parameters of a task that the template does not have, or does not have any more. */
function lostParameters({ parameters }: TaskView, form: readonly { readonly name: string }[]): string[] {
  return Object.keys(parameters).filter((name) => form.every((field) => field.name !== name));
}

/** For who has no scripts; others get the calls from the form, with the address that their browser knows. */
function callsFor(
  { cli, curl }: { readonly cli: string; readonly curl: string },
  { origin, apiKeyHeader }: { readonly origin: string; readonly apiKeyHeader: string },
) {
  return { cli, curl: curl.replace('$API', () => `${origin}/api/v1`).replace('X-API-Key', () => apiKeyHeader) };
}
