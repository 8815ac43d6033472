import { QueueQuery, queueRequestOf } from '../../api/queue-query.js';
import { levelMax } from '../../contract/priority.js';
import { statusDetails } from '../../contract/status.js';
import type { Page } from '../page.js';
import { queryOf } from '../query.js';

/** Steps that run and are shown, the caller's own first; the link below them leads to the others. */
const runningShown = 24;

/** What waits and why, what runs, and what people can do about it. */
export const queuePage: Page = {
  path: '/',
  nav: 'queue',
  access: 'read',
  view: 'queue',
  live: ['queue'],
  scripts: ['sortable.js', 'bulk.js', 'queue.js'],
  async load({ caller, services, url }) {
    const request = queueRequestOf(queryOf(QueueQuery, url));
    const templates = services.listTemplates();
    const [queue, models] = await Promise.all([services.listQueue(caller, request), services.listModels()]);
    const outputs = await services.events.lastOutputs(
      caller,
      queue.running.flatMap(({ task_id: id }) => (id === null ? [] : [id])),
    );
    const filtered = [request.tasks, request.models, request.users, request.pools, request.details, request.templates, request.levels].some(
      ({ length }) => length > 0,
    );
    return {
      title: 'Queue',
      data: {
        queue,
        running: [...queue.running].sort((a, b) => Number(a.task_id === null) - Number(b.task_id === null)).slice(0, runningShown),
        filtered,
        outputs,
        mayChange: caller.role !== 'viewer',
        wholePause: queue.pauses.find(({ scope }) => scope === 'queue') ?? null,
        filters: {
          template: { chosen: request.templates, values: templates.items.map(({ name }) => name) },
          model: { chosen: request.models, values: [...new Set(models.items.map(({ name }) => name))].sort() },
          status_detail: { chosen: request.details, values: statusDetails },
          priority: { chosen: request.levels.map(String), values: Array.from({ length: levelMax }, (_, index) => String(levelMax - index)) },
        },
      },
    };
  },
};
