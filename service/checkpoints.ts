import { ProblemError } from '../contract/problems.js';
import { levelOfExact } from '../contract/priority.js';
import type { CheckpointDetailView, CheckpointView, CreateCheckpointRequest, RestoredCheckpointView } from '../contract/schemas/checkpoint.js';
import { type CheckpointRow, createCheckpoint, type KeptTask, listCheckpoints, readCheckpoint, restoreTask } from '../db/checkpoints.js';
import { untilAvailable } from '../db/connect.js';
import { addDependency, readDependencies, removeDependency } from '../db/dependencies.js';
import type { Caller } from './caller.js';
import type { CatalogueNow } from './compile-request.js';
import type { ServiceDeps } from './deps.js';
import { eachAtOnce } from './each-at-once.js';

export interface CheckpointUseCases {
  /** Writes a checkpoint of the queue, the locks and the templates as they are now. */
  createCheckpoint(caller: Caller, request: CreateCheckpointRequest): Promise<CheckpointView>;
  /** Every checkpoint, newest first. */
  listCheckpoints(): Promise<{ items: CheckpointView[] }>;
  /** @throws {ProblemError} unknown_checkpoint */
  getCheckpoint(id: number): Promise<CheckpointDetailView>;
  /**
   * Gives every task of a checkpoint the place, the priority and the dependencies that it had, and queues those again that have failed or were
   * cancelled since. Work that was done is not undone, tasks that came later stay, and files of templates are compared, not written. May be repeated.
   * @throws {ProblemError} unknown_checkpoint
   */
  restoreCheckpoint(id: number): Promise<RestoredCheckpointView>;
}

/** A task collides with a move of the engine now and then; it is tried again for so long. */
const patienceMs = 5_000;
/** Tasks that are restored at the same time, each in its own transaction, so that no task waits for another. */
const atOnce = 8;

export function checkpointUseCases({ sql }: ServiceDeps, catalogue: CatalogueNow): CheckpointUseCases {
  const found = async (id: number) => {
    const row = await readCheckpoint(sql, id);
    if (row === null) throw new ProblemError('unknown_checkpoint', `There is no checkpoint ${id}.`);
    return row;
  };
  const definitionsNow = () =>
    catalogue()
      .list()
      .map(({ template: { name, hash, yaml }, source }) => ({ name, source, hash, yaml: yaml.text }));

  /** All that is too much goes first, so that no order of the rest closes a circle. @returns ids of the tasks whose dependencies were changed */
  async function restoreDependencies(tasks: readonly KeptTask[]): Promise<ReadonlySet<string>> {
    const present = await readDependencies(
      sql,
      tasks.map(({ task_id }) => task_id),
    );
    const before = (id: string) => present.get(id) ?? new Set<string>();
    const changed = new Set<string>();
    const extra = tasks.flatMap(({ task_id, depends_on }) => [...before(task_id)].filter((id) => !depends_on.includes(id)).map((id) => ({ task_id, id })));
    const missing = tasks.flatMap(({ task_id, depends_on }) => depends_on.filter((id) => !before(task_id).has(id)).map((id) => ({ task_id, id })));
    await eachAtOnce(extra, atOnce, async ({ task_id, id }) => {
      const { outcome } = await untilAvailable(() => removeDependency(sql, task_id, null, id), { patienceMs });
      if (outcome === 'changed') changed.add(task_id);
    });
    await eachAtOnce(missing, atOnce, async ({ task_id, id }) => {
      const { outcome } = await untilAvailable(() => addDependency(sql, task_id, null, id, 'sequential'), { patienceMs });
      if (outcome === 'changed') changed.add(task_id);
    });
    return changed;
  }

  return {
    createCheckpoint: async (caller, { name }) => view(await createCheckpoint(sql, { name: name ?? null, user: caller.userId, definitions: definitionsNow() })),
    listCheckpoints: async () => ({ items: (await listCheckpoints(sql)).map(view) }),
    async getCheckpoint(id) {
      const row = await found(id);
      const { definitions, queue, locks } = row.content;
      return {
        ...view(row),
        content: {
          definitions: [...definitions],
          queue: queue.map(({ task_id, name, template, template_hash, status, attempt, agent_assigned, exact, depends_on }) => ({
            ...{ task_id, name, template, template_hash, status, attempt, agent_assigned },
            priority: levelOfExact(exact),
            depends_on: [...depends_on],
          })),
          locks: [...locks],
        },
      };
    },
    async restoreCheckpoint(id) {
      const { content } = await found(id);
      const outcomes = await eachAtOnce(content.queue, atOnce, async (task) => ({
        task_id: task.task_id,
        outcome: await untilAvailable(() => restoreTask(sql, task), { patienceMs }),
      }));
      const changed = await restoreDependencies(content.queue.filter((_, index) => isQueued(outcomes[index]?.outcome)));
      const now = new Map(definitionsNow().map(({ name, hash }) => [name, hash]));
      return {
        checkpoint_id: id,
        tasks: outcomes.map(({ task_id, outcome }) => ({ task_id, outcome: outcome === 'unchanged' && changed.has(task_id) ? ('moved' as const) : outcome })),
        definitions: content.definitions.map(({ name, hash }) => ({
          name,
          outcome: !now.has(name) ? ('missing' as const) : now.get(name) === hash ? ('unchanged' as const) : ('changed' as const),
        })),
      };
    },
  };
}

function isQueued(outcome: RestoredCheckpointView['tasks'][number]['outcome'] | undefined): boolean {
  return outcome === 'unchanged' || outcome === 'moved' || outcome === 'queued_again';
}

function view({ id, name, createdAt, createdBy, tasks, definitions }: CheckpointRow): CheckpointView {
  return { id, name, created_at: createdAt.toISOString(), created_by: createdBy, tasks, definitions };
}
