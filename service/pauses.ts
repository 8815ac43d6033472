import { ProblemError } from '../contract/problems.js';
import type { PauseListView, PauseView } from '../contract/schemas/queue.js';
import { pauseQueue, type PauseRow, type PauseScope, readPauses, resumeQueue } from '../db/queue.js';
import type { Caller } from './caller.js';
import type { ServiceDeps } from './deps.js';
import { namedModel, type NamesOfModels } from './model-named.js';

/** At most one of the two; without any it is the whole queue. */
export interface PauseTargetRequest {
  readonly host?: string | undefined;
  /** a model's name or an alias */
  readonly model?: string | undefined;
}

export interface PauseUseCases {
  listPauses(): Promise<PauseListView>;
  /** Nothing new starts there until it is resumed. May be repeated. @throws {ProblemError} model_refused, unknown_host */
  pauseQueue(caller: Caller, request: PauseTargetRequest & { readonly reason?: string | undefined }): Promise<PauseListView>;
  /** May be repeated. @throws {ProblemError} model_refused */
  resumeQueue(caller: Caller, request: PauseTargetRequest): Promise<PauseListView>;
}

/** Pauses of the whole queue, a host or a model, by administrators. */
export function pauseUseCases({ sql }: ServiceDeps, deployment: NamesOfModels): PauseUseCases {
  const listPauses = async (): Promise<PauseListView> => ({ items: (await readPauses(sql)).map((row) => pauseView(row)) });

  function scopeOf({ host, model }: PauseTargetRequest): PauseScope {
    if (host !== undefined) return `host:${host}`;
    return model === undefined ? 'queue' : `model:${namedModel(deployment, model, 'model')}`;
  }

  return {
    listPauses,
    async pauseQueue(caller, { reason, ...target }) {
      const done = await pauseQueue(sql, scopeOf(target), { by: caller.userId, reason: reason ?? null });
      if (done === 'unknown_host') throw new ProblemError('unknown_host', `There is no host "${target.host}".`);
      return listPauses();
    },
    async resumeQueue(caller, target) {
      await resumeQueue(sql, scopeOf(target), caller.userId);
      return listPauses();
    },
  };
}

/** @param withName whether the caller may see who paused it */
export function pauseView({ scope, by, reason, at }: PauseRow, withName = true): PauseView {
  const [kind, ...rest] = scope.split(':');
  return {
    scope: kind as PauseView['scope'],
    name: rest.length === 0 ? null : rest.join(':'),
    by: withName ? by : null,
    reason,
    at: at.toISOString(),
  };
}
