import type { LoadedModel } from '../activities/backends/backend.js';
import { sameModel } from '../contract/model-name.js';
import type { ResidencyKey } from '../contract/queues.js';
import type { ResidencyRow } from '../contract/residency.js';

/** What this host remembers of a key that it loaded. Times of the monotonic clock. */
export interface LoadMemory {
  /** context length that the server reported after the load; it may be less than the one asked for */
  readonly contextLength: number | null;
  /** when the keep-alive lease was last given */
  readonly leasedAtMs: number;
  /** when the model was last loaded again because somebody else had unloaded it; null: never */
  readonly reloadedAtMs: number | null;
}

/** What a poll of the model server asks the host to do. */
export interface PollVerdict {
  /** gone, or loaded with other options by somebody else: load again */
  readonly reload: readonly ResidencyRow[];
  /** gone again soon after it was loaded again: somebody else wants the memory, so the engine has to decide anew */
  readonly giveUp: readonly ResidencyRow[];
  /** there, and its lease needs renewal */
  readonly renew: readonly ResidencyRow[];
}

export interface PollLimits {
  readonly keepAliveEveryMs: number;
  /** a key that goes again within this time after its reload is given up */
  readonly settleMs: number;
}

/**
 * Compares what the server holds with what it should serve.
 * @param serving rows read before the server was asked, so that a load that ended in between is not taken for a loss
 */
export function judgePoll(
  serving: readonly ResidencyRow[],
  loaded: readonly LoadedModel[],
  memory: ReadonlyMap<ResidencyKey, LoadMemory>,
  nowMs: number,
  { keepAliveEveryMs, settleMs }: PollLimits,
): PollVerdict {
  const verdict: { [Kind in keyof PollVerdict]: ResidencyRow[] } = { reload: [], giveUp: [], renew: [] };
  for (const row of serving) {
    const known = memory.get(row.key);
    if (loaded.some((model) => sameModel(model.name, row.model.name) && sameContext(model, known))) {
      if (!known || nowMs - known.leasedAtMs >= keepAliveEveryMs) verdict.renew.push(row);
    } else if (known?.reloadedAtMs != null && nowMs - known.reloadedAtMs < settleMs) verdict.giveUp.push(row);
    else verdict.reload.push(row);
  }
  return verdict;
}

function sameContext(model: LoadedModel, known: LoadMemory | undefined): boolean {
  return known?.contextLength == null || model.contextLength === null || model.contextLength === known.contextLength;
}
