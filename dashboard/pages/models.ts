import type { ModelListView } from '../../contract/schemas/model.js';
import type { QueueView } from '../../contract/schemas/queue.js';
import { eachOnce } from '../../contract/shared-memory.js';
import { unfiltered } from '../../service/list-queue.js';
import { drawTimeline } from '../drawings/model-timeline.js';
import type { Page } from '../page.js';
import { wholeOf } from '../query.js';

/** Entries of the queue among which the next model of a host is looked for. */
const nextEntries = 50;

/** Ranges of the timeline, in minutes. */
const ranges = [15, 60, 360, 1_440] as const;

/** What each host holds in memory, when it did and will, and what can be done about it. */
export const modelsPage: Page = {
  path: '/models',
  nav: 'models',
  access: 'read',
  view: 'models',
  live: ['models'],
  scripts: ['models.js'],
  async load({ caller, services, url }) {
    const minutes = wholeOf(url, 'minutes', ranges) ?? 60;
    const [models, failed, timeline, queue] = await Promise.all([
      services.listModels(),
      services.failedModelOrders(),
      services.modelTimeline(caller, { pastMinutes: minutes, aheadMinutes: minutes }),
      services.listQueue(caller, { ...unfiltered, pools: ['model'], limit: nextEntries, cursor: null }),
    ]);
    return {
      title: 'Models',
      data: {
        models,
        inMemory: eachOnce(models.items.filter(({ loaded }) => loaded)).length,
        hosts: models.hosts.map((host) => ({
          ...host,
          memory: memoryOf(host, models),
          next: nextOn(host.id, models, queue),
          changes: queue.changes.filter(({ host: id }) => id === host.id),
          failed: failed.find(({ host: id }) => id === host.id) ?? null,
        })),
        pauses: queue.pauses,
        drawing: drawTimeline(
          timeline,
          models.hosts.map(({ id }) => id),
        ),
        empty: timeline.held.length === 0,
        minutes,
        ranges,
      },
    };
  },
};

/** What waits first for a model that a host does not serve yet, as far as the caller sees what waits; null: nothing. */
function nextOn(host: string, { items: models }: ModelListView, { items }: QueueView): { readonly model: string; readonly at: string | null } | null {
  const serves = (name: string) => models.some((model) => model.host === host && model.serving && model.name === name);
  const first = items.find((entry) => entry.host === host && entry.model !== null && !serves(entry.model));
  return first?.model == null ? null : { model: first.model, at: first.estimated_start_time };
}

/** Memory of a host in bytes, for a bar: what its models take, what other programs take of the budget, and what is free. */
function memoryOf(host: ModelListView['hosts'][number], { items }: ModelListView) {
  const held = eachOnce(items.filter((model) => model.host === host.id && model.loaded)).map(({ name, shares_memory_with: others, memory_bytes: bytes }) => ({
    name: [name, ...others].join(', '),
    bytes: bytes ?? 0,
  }));
  const ours = held.reduce((sum, { bytes }) => sum + bytes, 0);
  const budget = host.budget_bytes;
  if (budget === null) return { held, ours, budget, foreign: null, free: null };
  const foreign = Math.max(0, budget - (host.room_bytes ?? budget));
  return { held, ours, budget, foreign, free: Math.max(0, budget - foreign - ours) };
}
