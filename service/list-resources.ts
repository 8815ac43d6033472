import type { ResourceListView } from '../contract/schemas/holds.js';
import { listResources } from '../db/holds.js';
import { type Caller, ownerOf } from './caller.js';
import type { ServiceDeps } from './deps.js';

const units: Readonly<Record<string, ResourceListView['items'][number]['unit']>> = { cpu: 'cores', memory: 'GiB', disk: 'GiB', gpu: 'cards' };

/** Every resource pool: what there is, what tasks hold and what is in use. */
export function listResourcesUseCase({ sql }: ServiceDeps) {
  return async (caller: Caller): Promise<ResourceListView> => {
    const rows = await listResources(sql, ownerOf(caller));
    return {
      items: rows.map(({ configured, tasks, ...row }) => ({
        ...row,
        unit: units[row.pool] ?? 'units',
        source: configured ? 'configuration' : 'machines',
        tasks: [...tasks],
      })),
    };
  };
}
