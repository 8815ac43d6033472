import { z } from 'zod';
import { templateSources, type TemplateSummaryView } from '../../contract/schemas/template-view.js';
import type { Page } from '../page.js';
import { queryOf } from '../query.js';

const Query = z.object({ q: z.string().max(200).default(''), source: z.enum(templateSources).optional() });

/** Where templates come from, those of this installation first. */
const groups = [
  ['local', 'Your own'],
  ['built-in', 'Built in'],
  ['community', 'From the community'],
] as const;

/** What can be submitted. */
export const templatesPage: Page = {
  path: '/templates',
  nav: 'templates',
  access: 'read',
  view: 'templates',
  live: [],
  async load({ services, url }) {
    const { q, source } = queryOf(Query, url);
    const { items, broken } = services.listTemplates();
    const found = items.filter((template) => (source === undefined || template.source === source) && fits(template, q));
    // What is stale is told at its template.
    const served = new Set(items.flatMap(({ stale }) => (stale ?? []).map(({ file }) => file)));
    return {
      title: 'Templates',
      data: {
        q,
        source: source ?? '',
        sources: templateSources.filter((each) => items.some((template) => template.source === each)),
        total: items.length,
        shown: found.length,
        groups: groups
          .map(([of, label]) => ({ of, label, items: found.filter((template) => template.source === of) }))
          .filter((group) => group.items.length > 0),
        broken: broken.filter(({ file }) => !served.has(file)),
      },
    };
  },
};

/** Whether every word stands somewhere in a template: its name, its description, its steps, its models or its parameters. */
export function fits({ name, description, step_types, models, parameters }: TemplateSummaryView, words: string): boolean {
  const text = [name, description, ...step_types, ...models, ...parameters.map((parameter) => `${parameter.name} ${parameter.description ?? ''}`)]
    .join(' ')
    .toLowerCase();
  return words
    .toLowerCase()
    .split(/\s+/)
    .every((word) => text.includes(word));
}
