import { z } from 'zod';
import { taskStatuses } from '../status.js';
import { TaskIdSchema } from './task.js';

const exampleId = '8f14e45f-ceea-467f-a0e6-7c1f9d2b3a44';

/** Tasks of one kind that are listed. */
export const relatedMax = 1_000;

export const TaskLink = z
  .object({ id: TaskIdSchema, name: z.string(), status: z.enum(taskStatuses) })
  .meta({ id: 'TaskLink', description: 'Another task', example: { id: exampleId, name: 'fetch the notes', status: 'completed' } });

export const TaskRelations = z
  .object({
    depends_on: z.array(TaskLink).meta({ description: 'Tasks that it waits for, in the order in which they were named' }),
    dependents: z.array(TaskLink).meta({ description: `Tasks that wait for it, oldest first, at most ${relatedMax}` }),
    replayed_from: TaskLink.nullable().meta({ description: 'The task whose input it repeats' }),
    replays: z.array(TaskLink).meta({ description: `Tasks that repeat its input, oldest first, at most ${relatedMax}` }),
  })
  .meta({ id: 'TaskRelations', description: 'Other tasks that a task has to do with; those of other people are left out' });
export type TaskRelationsView = z.output<typeof TaskRelations>;
