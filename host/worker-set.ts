import type { Worker } from '@temporalio/worker';
import type { Logger } from 'pino';

/** The Workers of one process, by what they serve. */
export interface WorkerSet<Key extends string = string> {
  readonly keys: ReadonlySet<Key>;
  start(key: Key): Promise<void>;
  /** Takes no more work; what runs may end within the Worker's grace. Resolves when it has. */
  stop(key: Key): Promise<void>;
  stopAll(): Promise<void>;
}

/**
 * @param create makes a Worker that is not running yet
 * @param onDeath called when a Worker ended without being asked to; its key is free again
 */
export function createWorkerSet<Key extends string>(create: (key: Key) => Promise<Worker>, onDeath: (key: Key) => void, log: Logger): WorkerSet<Key> {
  const working = new Map<Key, { readonly worker: Worker; readonly ended: Promise<void> }>();
  const stopping = new Set<Promise<void>>();

  const set: WorkerSet<Key> = {
    get keys() {
      return new Set(working.keys());
    },
    async start(key) {
      if (working.has(key)) return;
      const worker = await create(key);
      const ended = worker.run().catch((error: unknown) => log.error({ err: error, key }, 'a worker died'));
      const entry = { worker, ended };
      working.set(key, entry);
      void ended.then(() => {
        if (working.get(key) !== entry) return;
        working.delete(key);
        onDeath(key);
      });
    },
    async stop(key) {
      const entry = working.get(key);
      if (!entry) return;
      working.delete(key);
      if (entry.worker.getState() === 'RUNNING') entry.worker.shutdown();
      stopping.add(entry.ended);
      await entry.ended;
      stopping.delete(entry.ended);
    },
    async stopAll() {
      for (const key of [...working.keys()]) void set.stop(key);
      await Promise.all(stopping);
    },
  };
  return set;
}
