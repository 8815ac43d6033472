import type { LoadedModel } from '../activities/backends/backend.js';
import { sameModel } from '../contract/model-name.js';
import type { HostRoom } from '../db/leases.js';

/** Models that a server keeps in memory at the same time unless somebody says otherwise; Ollama's own default for one GPU. */
export const defaultModelsMax = 3;

/** Share of a machine's main memory that models may take. */
const systemShare = 0.8;
/** Room is told in steps of this size, so that it does not change with every page that some program takes. */
const stepBytes = 64 * 1024 ** 2;

export interface RoomSettings {
  /** models in memory at the same time; null: {@link defaultModelsMax}, or one where the memory is not known */
  readonly modelsMax: number | null;
  /** bytes for models; null: what the machine has */
  readonly budgetBytes: number | null;
}

/** Memory of the machine that a model server runs on, in bytes; used by whomever. */
export interface MemoryReading {
  readonly main: { readonly totalBytes: number; readonly usedBytes: number };
  /** all GPUs together; null: none */
  readonly gpu: { readonly totalBytes: number; readonly usedBytes: number } | null;
}

/**
 * What a host may hold: its budget, or less where other programs use so much that the budget is not there. Memory of a GPU is what counts where models
 * are in it; one that is larger than that is loaded alone, with the rest of it in main memory.
 * @param reading null: the server runs elsewhere, and only its own list is known
 * @param loaded all that the server holds
 * @param ours names of the models that the engine wants there
 */
export function roomOf(
  { modelsMax, budgetBytes }: RoomSettings,
  reading: MemoryReading | null,
  loaded: readonly LoadedModel[],
  ours: ReadonlySet<string>,
): HostRoom {
  const models = [...new Map(loaded.map((model) => [model.runner, model])).values()];
  const isOurs = (model: LoadedModel) => loaded.some(({ runner, name }) => runner === model.runner && [...ours].some((mine) => sameModel(name, mine)));
  const onGpu = reading?.gpu != null && (models.length === 0 || models.some(({ vramBytes }) => vramBytes > 0));
  const bytesOf = ({ vramBytes, memoryBytes }: LoadedModel) => (onGpu ? vramBytes : memoryBytes);
  const sum = (of: readonly LoadedModel[]) => of.reduce((bytes, model) => bytes + bytesOf(model), 0);
  const byOurs = sum(models.filter(isOurs));
  const byOthersHere = sum(models) - byOurs;

  const memory = onGpu ? reading.gpu : (reading?.main ?? null);
  const detected = memory === null ? null : onGpu ? memory.totalBytes : Math.floor(memory.totalBytes * systemShare);
  const budget = budgetBytes ?? detected;
  if (budget === null) return { modelsMax: modelsMax ?? 1, roomBytes: null, budgetBytes: null, spillBytes: 0 };
  const there = memory === null ? Infinity : memory.totalBytes - Math.max(0, memory.usedBytes - byOurs);
  const room = Math.max(0, Math.min(budget - byOthersHere, there));
  return {
    modelsMax: modelsMax ?? defaultModelsMax,
    roomBytes: room === budget ? budget : Math.floor(room / stepBytes) * stepBytes,
    budgetBytes: budget,
    spillBytes: onGpu && budgetBytes === null ? Math.floor(reading.main.totalBytes * systemShare) : 0,
  };
}
