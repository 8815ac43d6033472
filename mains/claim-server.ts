import { lockOllama, type OllamaLock, OllamaInUse } from '../activities/backends/ollama-lock.js';
import type { Config } from '../config.js';

/** The right of this process to load and unload models on a server; two installations would undo each other's decisions. */
export interface ServerClaim {
  /** takes the right if it is free; why somebody else has it, or null: it is ours */
  notOurs(): Promise<string | null>;
  release(): Promise<void>;
}

/** @param address of the model server */
export function claimServer(address: string, { cacheDir, home }: Pick<Config, 'cacheDir' | 'home'>): ServerClaim {
  let lock: OllamaLock | null = null;
  return {
    async notOurs() {
      try {
        lock ??= await lockOllama(address, cacheDir, home);
        return null;
      } catch (error) {
        if (error instanceof OllamaInUse) return error.message;
        throw error;
      }
    },
    async release() {
      await lock?.release();
      lock = null;
    },
  };
}
