import type { z } from 'zod';
import { type Fault, ProblemError, problemTable } from '../contract/problems.js';
import { BatchItem, type BatchItemRequest, type BatchResultView, type ItemProblemView } from '../contract/schemas/many.js';
import type { CreateTaskRequest, TaskView } from '../contract/schemas/task.js';
import { type InsertedTask, insertTasks, type NewTask } from '../db/tasks.js';
import { type DagEdge, findCycle } from '../scheduling/dag.js';
import { type Caller, ownerOf } from './caller.js';
import { cycle } from './change-dependencies.js';
import { type Compile, earlierTask, storeAgain } from './create-task.js';
import type { ServiceDeps } from './deps.js';
import { dependencyIds, newTask, queueFull, requestHash, resourcesExceeded, unknownDependencies } from './new-task.js';
import { taskView } from './task-view.js';

type Item = BatchResultView['items'][number];

/** An item that fits its schema. */
interface Sound {
  readonly index: number;
  readonly request: CreateTaskRequest;
  readonly ref: string | null;
  readonly key: string | null;
  /** refs of items of this batch that it waits for */
  readonly waitsFor: readonly string[];
  /** ids of tasks that it waits for, as they were written */
  readonly others: readonly string[];
}

/**
 * Creates many tasks in one transaction. Each item is checked as a single request, and a refused one harms no other but those that wait for it. The outbox
 * starts them. May be repeated where every item has an idempotency key.
 * @param faultsOf turns what a schema found into faults, as the API tells them
 * @throws {ProblemError} dependency_cycle when items wait for each other, and nothing is stored then
 */
export function createBatchUseCase(deps: ServiceDeps, compile: Compile) {
  const { sql, log, config } = deps;

  return async (
    caller: Caller,
    items: readonly unknown[],
    faultsOf: (issues: readonly z.core.$ZodIssue[], data: unknown) => ProblemError,
  ): Promise<BatchResultView> => {
    const results: Item[] = items.map((_, index) => ({ index, outcome: 'refused', task: null, problem: null }));
    const refuse = (index: number, problem: ProblemError) => {
      results[index] = { index, outcome: 'refused', task: null, problem: problemView(problem) };
    };
    const sound = soundItems(items, faultsOf, refuse);
    const refs = refsOf(sound, refuse);
    const circle = findCycle(edgesOf(sound));
    if (circle !== null) throw cycle(circle.map((ref) => `#${ref}`));

    /** task of each ref that may be waited for, of the caller's own or of an earlier request */
    const ids = new Map<string, string>();
    const settle = (item: Sound, outcome: 'created' | 'existing', task: TaskView) => {
      results[item.index] = { index: item.index, outcome, task, problem: null };
      if (item.ref !== null) ids.set(item.ref, task.id);
    };
    for (let open: readonly Sound[] = inOrder(sound).filter(({ index }) => results[index]?.problem === null); open.length > 0; ) {
      const made: { readonly task: NewTask; readonly item: Sound }[] = [];
      for (const item of open) {
        try {
          const known = item.key === null ? null : await earlierTask(deps, caller, item.key, hashOf(item));
          if (known !== null) {
            settle(item, 'existing', known);
            continue;
          }
          const task = await madeOf(caller, item, ids, refs);
          made.push({ task, item });
          if (item.ref !== null) ids.set(item.ref, task.id);
        } catch (error) {
          if (!(error instanceof ProblemError)) throw error;
          refuse(item.index, error);
        }
      }
      open = await store(caller, made, ids, settle, refuse);
    }
    const count = (outcome: Item['outcome']) => results.filter((item) => item.outcome === outcome).length;
    return { created: count('created'), existing: count('existing'), refused: count('refused'), items: results };
  };

  async function madeOf(
    caller: Caller,
    { request, key, waitsFor, others }: Sound & { readonly index: number },
    ids: ReadonlyMap<string, string>,
    refs: ReadonlySet<string>,
  ): Promise<NewTask> {
    const inside = waitsFor.map((ref) => {
      const id = ids.get(ref);
      if (id === undefined) throw waitsForRefused(request.depends_on, ref, refs.has(ref));
      return id;
    });
    // Two refs may be one task, by one idempotency key; a ref that is written twice is refused as an id would be.
    const once = new Set(waitsFor).size === waitsFor.length ? [...new Set(inside)] : inside;
    const dependsOn = dependencyIds([...once, ...others]);
    const idempotency = key === null ? null : { key, bodyHash: requestHash(request) };
    return newTask(caller, request, await compile(request), { dependsOn, idempotency, queueMax: config.queueMax });
  }

  /**
   * An item that was refused by the database refuses those that wait for it; the rest of their transaction stays.
   * @returns items to make and store again: the key of one that they wait for was taken, by another request or by an earlier item, so that they wait for
   *   another task than was made for it
   */
  async function store(
    caller: Caller,
    made: readonly { readonly task: NewTask; readonly item: Sound }[],
    ids: Map<string, string>,
    settle: (item: Sound, outcome: 'created' | 'existing', task: TaskView) => void,
    refuse: (index: number, problem: ProblemError) => void,
  ): Promise<readonly Sound[]> {
    if (made.length === 0) return [];
    const stored = await storeAgain(
      () =>
        insertTasks(
          sql,
          made.map(({ task }) => task),
          { owner: ownerOf(caller), queueMax: config.queueMax },
        ),
      (error) => log.warn({ err: error, tasks: made.length }, 'connection lost while storing a batch; storing it again under the same ids'),
    );
    const itemOf = new Map(made.map(({ task, item }) => [task.id, item]));
    const orphans: { readonly item: Sound; readonly of: string }[] = [];
    const taken: Sound[] = [];
    const notStored = (item: Sound) => item.ref !== null && ids.delete(item.ref);
    for (const [index, { item }] of made.entries()) {
      const outcome = stored[index] as InsertedTask;
      switch (outcome.outcome) {
        case 'created':
          settle(item, 'created', taskView(outcome.row));
          break;
        case 'queue_full':
          notStored(item);
          refuse(item.index, queueFull(outcome.queued, config.queueMax));
          break;
        case 'too_large':
          refuse(item.index, resourcesExceeded(outcome.amounts));
          break;
        case 'unknown_dependencies': {
          notStored(item);
          const refused = outcome.ids.map((id) => itemOf.get(id)?.ref).find((ref) => ref !== undefined && ref !== null);
          if (refused == null) refuse(item.index, unknownDependencies(item.others, outcome.ids));
          else orphans.push({ item, of: refused });
          break;
        }
        case 'key_taken':
          notStored(item);
          taken.push(item);
      }
    }
    let found = false;
    for (const item of taken) found = (await settleTaken(caller, item, settle, refuse)) || found;
    if (found) return orphans.map(({ item }) => item);
    for (const { item, of } of orphans) refuse(item.index, waitsForRefused(item.request.depends_on, of, true));
    return [];
  }

  /** Another request took the key meanwhile, or an item before it in this batch. @returns whether its task is the one of the item */
  async function settleTaken(
    caller: Caller,
    item: Sound,
    settle: (item: Sound, outcome: 'existing', task: TaskView) => void,
    refuse: (index: number, problem: ProblemError) => void,
  ): Promise<boolean> {
    try {
      const winner = await earlierTask(deps, caller, item.key ?? '', hashOf(item));
      if (winner === null) throw new ProblemError('unavailable', 'Another request with this idempotency key is under way; try again.');
      settle(item, 'existing', winner);
      return true;
    } catch (error) {
      if (!(error instanceof ProblemError)) throw error;
      refuse(item.index, error);
      return false;
    }
  }
}

function hashOf({ request }: Sound): Buffer {
  return requestHash(request);
}

function soundItems(
  items: readonly unknown[],
  faultsOf: (issues: readonly z.core.$ZodIssue[], data: unknown) => ProblemError,
  refuse: (index: number, problem: ProblemError) => void,
): Sound[] {
  return items.flatMap((data, index): Sound[] => {
    const parsed = BatchItem.safeParse(data);
    if (!parsed.success) {
      refuse(index, faultsOf(parsed.error.issues, data));
      return [];
    }
    const { ref, idempotency_key: key, ...request }: BatchItemRequest = parsed.data;
    const inside = request.depends_on.filter((text) => text.startsWith('#'));
    return [
      {
        index,
        request: request as CreateTaskRequest,
        ref: ref ?? null,
        key: key ?? null,
        waitsFor: inside.map((text) => text.slice(1)),
        others: request.depends_on.filter((text) => !text.startsWith('#')),
      },
    ];
  });
}

/** Names of items; of two with one name the later is refused. */
function refsOf(sound: readonly Sound[], refuse: (index: number, problem: ProblemError) => void): ReadonlySet<string> {
  const refs = new Set<string>();
  for (const { index, ref } of sound) {
    if (ref === null) continue;
    if (refs.has(ref)) {
      const fault: Fault = { path: 'ref', expected: 'a name that no other item has', got: ref, message: `"${ref}" is the name of an earlier item.` };
      refuse(index, new ProblemError('invalid_request', fault.message, { errors: [fault] }));
    }
    refs.add(ref);
  }
  return refs;
}

function edgesOf(sound: readonly Sound[]): DagEdge[] {
  return sound.flatMap(({ ref, waitsFor }) => (ref === null ? [] : waitsFor.map((parent) => ({ parent, child: ref }))));
}

/** Items after those that they wait for, else in the order of the request. There is no circle. */
function inOrder(sound: readonly Sound[]): Sound[] {
  const byRef = new Map(sound.flatMap((item) => (item.ref === null ? [] : [[item.ref, item] as const])));
  const sorted: Sound[] = [];
  const placed = new Set<Sound>();
  for (const first of sound) {
    // Depth first without recursion, since a chain may have a thousand items.
    const open: Sound[] = [first];
    for (let item = open.at(-1); item !== undefined; item = open.at(-1)) {
      const missing = placed.has(item) ? undefined : item.waitsFor.map((ref) => byRef.get(ref)).find((parent) => parent !== undefined && !placed.has(parent));
      if (missing !== undefined && !open.includes(missing)) {
        open.push(missing);
        continue;
      }
      open.pop();
      if (!placed.has(item)) sorted.push(item);
      placed.add(item);
    }
  }
  return sorted;
}

function waitsForRefused(texts: readonly string[], ref: string, known: boolean): ProblemError {
  const message = known ? `The item "${ref}" of this batch was refused.` : `No item of this batch is named "${ref}".`;
  const fault: Fault = {
    path: `depends_on[${Math.max(0, texts.indexOf(`#${ref}`))}]`,
    expected: 'an item of this batch that is created',
    got: `#${ref}`,
    message,
  };
  return new ProblemError('invalid_dependency', message, { errors: [fault] });
}

function problemView({ code, message, errors }: ProblemError): ItemProblemView {
  const { status, title } = problemTable[code];
  return { code, title, status, detail: message, errors: [...errors] };
}
