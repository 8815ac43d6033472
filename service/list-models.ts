import type { ModelView } from '../contract/schemas/model.js';
import { listModels } from '../db/models.js';
import type { ServiceDeps } from './deps.js';

/** Every model of every host, loaded ones first. */
export function listModelsUseCase({ sql }: ServiceDeps) {
  return async (): Promise<{ items: ModelView[] }> => {
    const models = await listModels(sql);
    return {
      items: models.map((model) => ({
        name: model.name,
        host: model.host,
        digest: model.digest,
        size_bytes: model.sizeBytes,
        loaded: model.loaded,
        memory_bytes: model.memoryBytes,
        vram_bytes: model.vramBytes,
        context_length: model.contextLength,
        queue_depth: model.queueDepth,
        last_used_at: model.lastUsedAt?.toISOString() ?? null,
        expires_at: model.expiresAt?.toISOString() ?? null,
      })),
    };
  };
}
