import { z } from '@hono/zod-openapi';
import { modelNameCharsMax } from '../contract/model-name.js';
import { levelMax } from '../contract/priority.js';
import { statusDetails } from '../contract/status.js';
import { repeatable, wholeNumber } from './query-values.js';

const limitDefault = 50;
const limitMax = 500;

export const QueueQuery = z.strictObject({
  task_id: repeatable(z.string().max(100), 'Steps of this task'),
  model: repeatable(z.string().min(1).max(modelNameCharsMax), 'Steps that need this model, a name or an alias'),
  user: repeatable(z.string().min(1).max(255), 'Tasks of this user'),
  pool: repeatable(z.enum(['general', 'model']), 'Steps with a model, or without'),
  status_detail: repeatable(z.enum(statusDetails), 'Why they wait'),
  template: repeatable(z.string().min(1).max(255), 'Tasks of this template'),
  priority: repeatable(wholeNumber(1, levelMax), '1 to 10'),
  limit: wholeNumber(1, limitMax)
    .optional()
    .meta({ type: 'integer', minimum: 1, maximum: limitMax, default: limitDefault, description: 'Entries on a page', example: limitDefault }),
  cursor: z.string().min(1).max(2_000).optional().meta({ description: '`next_cursor` of the page before, with the same filters' }),
});

/** What the query of a look at the queue asks for. */
export function queueRequestOf(query: z.output<typeof QueueQuery>) {
  const { task_id: tasks, model: models, user: users, pool: pools, status_detail: details, template: templates, priority: levels, limit, cursor } = query;
  return { tasks, models, users, pools, details, templates, levels, limit: limit ?? limitDefault, cursor: cursor ?? null };
}
