import type { AliasedModel } from '../contract/model-alias.js';
import type { JsonObject } from '../contract/json.js';
import type { ModelListView } from '../contract/schemas/model.js';
import { listModels } from '../db/models.js';
import type { Deployment } from './compile-request.js';
import type { ServiceDeps } from './deps.js';

/** Every model of every host, loaded ones first, and the short names of the configuration. */
export function listModelsUseCase({ sql }: ServiceDeps, { aliases = new Map<string, AliasedModel>() }: Pick<Deployment, 'aliases'>) {
  return async (): Promise<ModelListView> => {
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
        aliases: [...aliases].filter(([, { name }]) => name === model.name).map(([alias]) => alias),
        serving: model.residency === 'serving',
        pull: pullOf(model.details),
        usage: {
          inferences: model.usage.inferences,
          inference_time_seconds: model.usage.inferenceTimeSeconds,
          prompt_tokens: model.usage.promptTokens,
          output_tokens: model.usage.outputTokens,
        },
      })),
      aliases: [...aliases].map(([alias, { name, digest }]) => ({ alias, name, digest })),
    };
  };
}

function pullOf({ pull }: JsonObject): ModelListView['items'][number]['pull'] {
  if (typeof pull !== 'object' || pull === null || Array.isArray(pull)) return null;
  return { status: String(pull['status']), completed_bytes: Number(pull['completed_bytes'] ?? 0), total_bytes: Number(pull['total_bytes'] ?? 0) };
}
