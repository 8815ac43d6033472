import type { JsonObject } from '../contract/json.js';
import type { ModelNeed, ResidencyKey } from '../contract/queues.js';
import type { Sql } from './connect.js';
import { acquireHost, type HostIdentity, type HostRoom, HostTaken, hostHolder, hostOfSameServer, releaseHost, renewHost, setHostReady } from './leases.js';
import { endPull, markAllUnloaded, noteInstalled, recordPull, type SeenModels, upsertSeen } from './models.js';
import { readHeldBefore } from './residency-history.js';
import {
  beginLoad,
  beginUnload,
  drainKeys,
  drainState,
  endOrder,
  forgetKey,
  isOrderOpen,
  keptBeside,
  type LoadedKey,
  type OrderId,
  readResidency,
  removeDrained,
  serveKey,
} from './residency.js';

/** All that one host reads and writes, bound to its name; see the functions of leases.ts, residency.ts and models.ts. */
export function createHostRows(sql: Sql, identity: HostIdentity) {
  const { host } = identity;
  return {
    acquire: async (): Promise<{ epoch: number } | null> => {
      try {
        return { epoch: await acquireHost(sql, identity) };
      } catch (error) {
        if (error instanceof HostTaken) return null;
        throw error;
      }
    },
    holder: () => hostHolder(sql, identity),
    renew: (epoch: number) => renewHost(sql, host, epoch),
    release: (epoch: number) => releaseHost(sql, host, epoch),
    setReady: (epoch: number, ready: boolean, info: JsonObject, room: HostRoom) => setHostReady(sql, host, epoch, ready, info, room),

    ofSameServer: (epoch: number, marks: readonly string[]) => hostOfSameServer(sql, host, epoch, marks),
    residency: (epoch: number) => readResidency(sql, host, epoch),
    heldBefore: (withinMs: number) => readHeldBefore(sql, host, withinMs),
    forget: (epoch: number, key: ResidencyKey) => forgetKey(sql, host, epoch, key),
    isOpen: (order: OrderId) => isOrderOpen(sql, order),
    drain: (order: OrderId, keys: readonly ResidencyKey[]) => drainKeys(sql, order, keys),
    beginUnload: (order: OrderId, key: ResidencyKey) => beginUnload(sql, order, key),
    drainState: (order: OrderId, key: ResidencyKey) => drainState(sql, order, key),
    keptBeside: (order: OrderId, key: ResidencyKey) => keptBeside(sql, order, key),
    removeDrained: (order: OrderId, key: ResidencyKey) => removeDrained(sql, order, key),
    end: (order: OrderId) => endOrder(sql, order),
    beginLoad: (order: OrderId, key: ResidencyKey, model: ModelNeed) => beginLoad(sql, order, key, model),
    serve: (order: OrderId, key: ResidencyKey, loaded: LoadedKey) => serveKey(sql, order, key, loaded),

    seen: (models: SeenModels) => upsertSeen(sql, host, models),
    allUnloaded: () => markAllUnloaded(sql, host),
    recordPull: (order: OrderId, key: ResidencyKey, model: string, progress: Parameters<typeof recordPull>[4], tellTasks: boolean) =>
      recordPull(sql, order.host, key, model, progress, tellTasks),
    noteInstalled: (of: string, model: SeenModels['installed'][number]) => noteInstalled(sql, of, model),
    endPull: (of: string, model: string) => endPull(sql, of, model),
  };
}
