import type { AliasedModel } from '../contract/model-alias.js';
import type { JsonObject } from '../contract/json.js';
import type { ModelListView } from '../contract/schemas/model.js';
import { type HostSeen, readParts } from '../db/health.js';
import { listModels } from '../db/models.js';
import type { Deployment } from './compile-request.js';
import type { ServiceDeps } from './deps.js';

/** Every model of every host, loaded ones first, the hosts, and the short names of the configuration. */
export function listModelsUseCase({ sql }: ServiceDeps, { aliases = new Map<string, AliasedModel>() }: Pick<Deployment, 'aliases'>) {
  return async (): Promise<ModelListView> => {
    const [models, { hosts }] = await Promise.all([listModels(sql), readParts(sql)]);
    return {
      items: models.map((model) => ({
        name: model.name,
        host: model.host,
        digest: model.digest,
        size_bytes: model.sizeBytes,
        loaded: model.loaded,
        memory_bytes: model.memoryBytes,
        vram_bytes: model.vramBytes,
        shares_memory_with: models.flatMap(({ host, name, runner }) =>
          runner !== null && runner === model.runner && host === model.host && name !== model.name ? name : [],
        ),
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
      hosts: hosts.map((host) => ({
        id: host.id,
        ready: host.live && host.ready,
        why: host.live && host.ready ? null : whyNoWork(host),
        address: host.address,
        version: host.version,
        parallel: host.parallel,
        models_max: host.modelsMax,
        budget_bytes: host.budgetBytes,
        room_bytes: host.roomBytes,
      })),
      aliases: [...aliases].map(([alias, { name, digest }]) => ({ alias, name, digest })),
    };
  };
}

/** Why a host takes no work, in words for a person. */
export function whyNoWork({ silentSince, why }: Pick<HostSeen, 'silentSince' | 'why'>): string {
  if (silentSince !== null) return `it has not been heard of since ${silentSince.toISOString()}`;
  return why ?? 'it has not reached its model server yet';
}

function pullOf({ pull }: JsonObject): ModelListView['items'][number]['pull'] {
  if (typeof pull !== 'object' || pull === null || Array.isArray(pull)) return null;
  return { status: String(pull['status']), completed_bytes: Number(pull['completed_bytes'] ?? 0), total_bytes: Number(pull['total_bytes'] ?? 0) };
}
