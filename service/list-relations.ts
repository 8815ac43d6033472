import { relatedMax, type TaskRelationsView } from '../contract/schemas/task-relations.js';
import { readRelations } from '../db/relations.js';
import { type Caller, ownerOf } from './caller.js';
import type { ServiceDeps } from './deps.js';
import { taskIdOf, taskNotFound } from './task-id.js';

/** Other tasks that one of the caller's tasks has to do with. @throws {ProblemError} task_not_found */
export function listRelationsUseCase({ sql }: ServiceDeps) {
  return async (caller: Caller, idText: string): Promise<TaskRelationsView> => {
    const found = await readRelations(sql, taskIdOf(idText), ownerOf(caller), relatedMax);
    if (found === null) throw taskNotFound();
    return { depends_on: [...found.dependsOn], dependents: [...found.dependents], replayed_from: found.replayedFrom, replays: [...found.replays] };
  };
}
