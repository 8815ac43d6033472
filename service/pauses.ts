import { parseModelName } from '../contract/model-name.js';
import { ProblemError } from '../contract/problems.js';
import type { PauseListView, PauseView } from '../contract/schemas/queue.js';
import { pauseQueue, type PauseRow, type PauseScope, readPauses, resumeQueue } from '../db/queue.js';
import type { Caller } from './caller.js';
import type { Deployment } from './compile-request.js';
import type { ServiceDeps } from './deps.js';

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
export function pauseUseCases({ sql }: ServiceDeps, { aliases, allowedRegistries }: Pick<Deployment, 'aliases' | 'allowedRegistries'>): PauseUseCases {
  const listPauses = async (): Promise<PauseListView> => ({ items: (await readPauses(sql)).map((row) => pauseView(row)) });

  function scopeOf({ host, model }: PauseTargetRequest): PauseScope {
    if (host !== undefined) return `host:${host}`;
    if (model === undefined) return 'queue';
    const parsed = aliases?.get(model) ?? parseModelName(model, allowedRegistries);
    if (!('problem' in parsed)) return `model:${parsed.name}`;
    const fault = { path: 'model', expected: 'the name of a model, or an alias', got: `text of ${model.length} characters`, message: parsed.problem };
    throw new ProblemError('model_refused', parsed.problem, { errors: [fault] });
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
