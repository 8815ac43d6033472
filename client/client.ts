import type { CheckpointDetailView, CheckpointView } from '../contract/schemas/checkpoint.js';
import type { ConfigurationView } from '../contract/schemas/configuration.js';
import type { EventListView, EventView } from '../contract/schemas/event.js';
import type { HealthView } from '../contract/schemas/health.js';
import type { LockAnswerView, LockListView, LockReleasedView, ResourceListView } from '../contract/schemas/holds.js';
import type {
  ChangePasswordRequest,
  ChangeUserRequest,
  CreateUserRequest,
  CurrentCallerView,
  SignInTicketView,
  UserListView,
  UserView,
} from '../contract/schemas/sign-in.js';
import type { ErrorGroupsView, TrendsView } from '../contract/schemas/reports.js';
import type { TaskView } from '../contract/schemas/task.js';
import { isFinal } from '../contract/status.js';
import { followEvents, type StreamOptions } from './event-stream.js';
import type * as shapes from './shapes.js';
import { type ClientOptions, createTransport } from './transport.js';

/** What every call takes beside its arguments. */
export interface CallOptions {
  readonly signal?: AbortSignal | undefined;
}

/** Creating calls: the key makes a repeat safe; one is made up when none is given. */
export interface CreateOptions extends CallOptions {
  readonly idempotencyKey?: string | undefined;
}

export interface EventPageOptions extends CallOptions {
  readonly after?: string;
  /** 1 to 500 */
  readonly limit?: number;
}

export interface ListOptions extends shapes.TaskFilter, CallOptions {
  /** tasks on one page, 1 to 500 */
  readonly pageSize?: number | undefined;
}

export type Client = ReturnType<typeof createClient>;

const v1 = '/api/v1';
const part = encodeURIComponent;

/**
 * A client of the API. Nothing is sent before the first call. Calls that may be repeated are, a few times and as the server asks, when it cannot be reached or
 * says "not now"; creating a task is one of them, since each has an idempotency key.
 * Every call throws {@link ApiProblem} for a refusal, ApiUnreachable when no answer comes, and the signal's reason when it fires.
 */
export function createClient(options: ClientOptions) {
  const transport = createTransport(options);
  const get = <Answer>(path: string, { signal }: CallOptions = {}) => transport.json<Answer>({ method: 'GET', path: `${v1}${path}`, signal });
  const task = (id: string, rest = '') => `${v1}/tasks/${part(id)}${rest}`;

  async function listPage(query: ListOptions & { readonly cursor?: string | undefined; readonly limit?: number | undefined } = {}): Promise<shapes.TaskPage> {
    const { signal, pageSize, ...filter } = query;
    return transport.json({ method: 'GET', path: `${v1}/tasks`, query: { ...filter, limit: query.limit ?? pageSize }, signal });
  }

  async function* list(query: ListOptions = {}): AsyncGenerator<TaskView> {
    let cursor: string | null | undefined;
    do {
      const page: shapes.TaskPage = await listPage({ ...query, ...(cursor == null ? {} : { cursor }) });
      yield* page.items;
      cursor = page.next_cursor;
    } while (cursor !== null);
  }

  const tasks = {
    create: (request: shapes.NewTask, { idempotencyKey, signal }: CreateOptions = {}) =>
      transport.json<TaskView>({
        method: 'POST',
        path: `${v1}/tasks`,
        body: request,
        headers: { 'idempotency-key': idempotencyKey ?? crypto.randomUUID() },
        repeatable: true,
        signal,
      }),
    /** What a task would run; checks what `create` checks and stores nothing. */
    preview: (request: shapes.NewTask, { signal }: CallOptions = {}) =>
      transport.json<shapes.TaskPreview>({ method: 'POST', path: `${v1}/tasks`, query: { dry_run: true }, body: request, repeatable: true, signal }),
    get: (id: string, { signal }: CallOptions = {}) => transport.json<TaskView>({ method: 'GET', path: task(id), signal }),
    /** Every task that fits, newest first; pages are fetched as they are needed. */
    list,
    /** One page, as the API gives it. */
    listPage,
    cancel: (id: string, { signal }: CallOptions = {}) => transport.json<TaskView>({ method: 'DELETE', path: task(id), signal }),
    /** Not repeated: a second one would find the task queued. */
    retry: (id: string, { signal }: CallOptions = {}) => transport.json<TaskView>({ method: 'POST', path: task(id, '/retry'), signal }),
    replay: (id: string, changes: shapes.Replay = {}, { idempotencyKey, signal }: CreateOptions = {}) =>
      transport.json<TaskView>({
        method: 'POST',
        path: task(id, '/replay'),
        body: changes,
        headers: { 'idempotency-key': idempotencyKey ?? crypto.randomUUID() },
        repeatable: true,
        signal,
      }),
    setPriority: (id: string, priority: number, { signal }: CallOptions = {}) =>
      transport.json<TaskView>({ method: 'PATCH', path: task(id, '/priority'), body: { priority }, signal }),
    /** Nothing more of it starts until it is released. */
    hold: (id: string, { signal }: CallOptions = {}) => transport.json<TaskView>({ method: 'POST', path: task(id, '/hold'), repeatable: true, signal }),
    release: (id: string, { signal }: CallOptions = {}) => transport.json<TaskView>({ method: 'POST', path: task(id, '/release'), repeatable: true, signal }),
    executions: (id: string, { signal }: CallOptions = {}) => transport.json<shapes.ExecutionPage>({ method: 'GET', path: task(id, '/executions'), signal }),
    /** What its steps were to do, where they stand, and each time that they stood in the line. */
    steps: (id: string, { signal }: CallOptions = {}) => transport.json<shapes.TaskSteps>({ method: 'GET', path: task(id, '/steps'), signal }),
    /** Tasks that it waits for, that wait for it, and that repeat it. */
    relations: (id: string, { signal }: CallOptions = {}) => transport.json<shapes.TaskRelations>({ method: 'GET', path: task(id, '/relations'), signal }),
    addDependency: (id: string, dependency: shapes.NewDependency, { signal }: CallOptions = {}) =>
      transport.json<TaskView>({ method: 'POST', path: task(id, '/dependencies'), body: dependency, repeatable: true, signal }),
    removeDependency: (id: string, dependencyId: string, { signal }: CallOptions = {}) =>
      transport.json<TaskView>({ method: 'DELETE', path: task(id, `/dependencies/${part(dependencyId)}`), signal }),
    /** Up to 1,000 tasks at once. Repeated only when every item has an idempotency key. */
    batch: (items: readonly shapes.NewBatchItem[], { signal }: CallOptions = {}) =>
      transport.json<shapes.BatchResult>({
        method: 'POST',
        path: `${v1}/tasks/batch`,
        body: { tasks: items },
        repeatable: items.every((item) => item.idempotency_key !== undefined),
        signal,
      }),
    bulk: (request: shapes.Bulk, { signal }: CallOptions = {}) =>
      transport.json<shapes.BulkResult>({ method: 'POST', path: `${v1}/tasks/bulk`, body: request, repeatable: request.action !== 'retry', signal }),
    /** Everything that happened to the task and what happens now; ends when the task has ended. */
    events: (id: string, stream: StreamOptions = {}): AsyncGenerator<EventView> => followEvents(transport, { path: task(id, '/events') }, true, stream),
    /** One page of what happened. */
    eventPage: (id: string, { signal, ...query }: EventPageOptions = {}) =>
      transport.json<EventListView>({ method: 'GET', path: task(id, '/events'), query, signal }),
    /** Waits until the task has ended. The task goes on when the waiting is given up. */
    async wait(id: string, stream: StreamOptions = {}): Promise<TaskView> {
      for (;;) {
        const seen = await tasks.get(id, stream);
        if (isFinal(seen.status)) return seen;
        for await (const _event of tasks.events(id, stream));
      }
    },
  };

  return {
    baseUrl: transport.baseUrl,
    tasks,
    /** Events of all tasks that the caller may see, from now on unless `after` is given. Never ends by itself. */
    events: ({ taskIds, kinds, ...stream }: StreamOptions & { readonly taskIds?: readonly string[]; readonly kinds?: readonly string[] } = {}) =>
      followEvents(transport, { path: `${v1}/events`, query: { task_id: taskIds, kind: kinds } }, false, stream),
    eventPage: ({ taskIds, kinds, signal, ...query }: EventPageOptions & { readonly taskIds?: readonly string[]; readonly kinds?: readonly string[] } = {}) =>
      transport.json<EventListView>({ method: 'GET', path: `${v1}/events`, query: { task_id: taskIds, kind: kinds, ...query }, signal }),
    templates: {
      list: (call?: CallOptions) => get<shapes.Templates>('/templates', call),
      get: (name: string, call?: CallOptions) => get<shapes.TemplateDetail>(`/templates/${part(name)}`, call),
      /** Markdown. */
      docs: (name: string, { signal }: CallOptions = {}) => transport.text({ method: 'GET', path: `${v1}/templates/${part(name)}/docs`, signal }),
      /** JSON Schema of template files, for editors. */
      schema: (call?: CallOptions) => get<Readonly<Record<string, unknown>>>('/template-schema', call),
      validate: (yaml: string, { fileName, signal }: CallOptions & { readonly fileName?: string | undefined } = {}) =>
        transport.json<shapes.Validation>({
          method: 'POST',
          path: `${v1}/templates/validate`,
          body: { yaml, ...(fileName === undefined ? {} : { file_name: fileName }) },
          repeatable: true,
          signal,
        }),
    },
    models: {
      list: (call?: CallOptions) => get<shapes.Models>('/models', call),
      /** What hosts held, hold and are predicted to hold; minutes from 1 to 1,440. */
      timeline: ({ signal, ...query }: CallOptions & { readonly past_minutes?: number; readonly ahead_minutes?: number } = {}) =>
        transport.json<shapes.ModelTimeline>({ method: 'GET', path: `${v1}/models/timeline`, query, signal }),
      load: (name: string, order?: shapes.ModelOrderOptions & CallOptions) => orderModel('load', name, order),
      unload: (name: string, order?: shapes.ModelOrderOptions & CallOptions) => orderModel('unload', name, order),
      pull: (name: string, order?: shapes.ModelOrderOptions & CallOptions) => orderModel('pull', name, order),
      /** How far a load, an unload or a pull is. */
      order: (id: string, call?: CallOptions) => get<shapes.ModelOrder>(`/model-orders/${part(id)}`, call),
    },
    queue: {
      /** One page of what waits, in the order of predicted starts. */
      get: ({ signal, ...query }: shapes.QueueFilter & CallOptions & { readonly limit?: number; readonly cursor?: string } = {}) =>
        transport.json<shapes.QueuePage>({ method: 'GET', path: `${v1}/queue`, query, signal }),
      /** Places a task directly beside another one that waits. Repeated only without a version. */
      reorder: (move: shapes.Reorder, { signal }: CallOptions = {}) =>
        transport.json<shapes.QueueMove>({ method: 'POST', path: `${v1}/queue/reorder`, body: move, repeatable: move.version === undefined, signal }),
      /** Whose predicted start a move would change; moves nothing. */
      previewReorder: (move: shapes.Reorder, { signal }: CallOptions = {}) =>
        transport.json<shapes.QueueMovePreview>({ method: 'POST', path: `${v1}/queue/reorder/preview`, body: move, repeatable: true, signal }),
      /** One page of what the scheduler decided, newest first. */
      decisions: ({ signal, ...query }: shapes.DecisionFilter & CallOptions & { readonly limit?: number; readonly cursor?: string } = {}) =>
        transport.json<shapes.DecisionPage>({ method: 'GET', path: `${v1}/decisions`, query, signal }),
      pauses: (call?: CallOptions) => get<shapes.Pauses>('/queue/pauses', call),
      /** Nothing new starts in the whole queue, on a host or for a model. */
      pause: ({ signal, ...what }: shapes.PauseOptions & CallOptions = {}) =>
        transport.json<shapes.Pauses>({ method: 'POST', path: `${v1}/queue/pauses`, body: what, repeatable: true, signal }),
      resume: ({ signal, ...target }: shapes.PauseTargetOptions & CallOptions = {}) =>
        transport.json<shapes.Pauses>({ method: 'DELETE', path: `${v1}/queue/pauses`, query: { ...target }, signal }),
    },
    locks: {
      /** One page of the locks that tasks have, by name. */
      list: ({ signal, ...query }: CallOptions & { readonly limit?: number; readonly cursor?: string } = {}) =>
        transport.json<LockListView>({ method: 'GET', path: `${v1}/locks`, query, signal }),
      /** Whether a running task has the lock now; never waits for it. `wait`: it is kept for the task when it is free, for 30 seconds. */
      acquire: (name: string, taskId: string, { wait = false, signal }: CallOptions & { readonly wait?: boolean } = {}) =>
        transport.json<LockAnswerView>({ method: 'POST', path: `${v1}/locks/${part(name)}`, body: { task_id: taskId, wait }, repeatable: true, signal }),
      release: (name: string, taskId: string, { signal }: CallOptions = {}) =>
        transport.json<LockReleasedView>({ method: 'DELETE', path: `${v1}/locks/${part(name)}/${part(taskId)}`, signal }),
    },
    /** Every resource pool: what there is, what tasks hold and what is in use. */
    resources: (call?: CallOptions) => get<ResourceListView>('/resources', call),
    /** What machines had in use and what was done on them, over the last minutes. */
    resourceUsage: ({ signal, ...query }: CallOptions & { readonly minutes?: number } = {}) =>
      transport.json<shapes.ResourceUsage>({ method: 'GET', path: `${v1}/resources/usage`, query, signal }),
    /** What keeps work waiting, or is not as it should be, now. */
    alerts: (call?: CallOptions) => get<shapes.Alerts>('/alerts', call),
    /** The parts of the installation, their versions and leases. */
    system: (call?: CallOptions) => get<shapes.SystemParts>('/system', call),
    reports: {
      /** The report as it comes, unread: it may be long. */
      tasks: async ({ format = 'json', signal, ...filter }: shapes.TaskFilter & CallOptions & { readonly format?: 'json' | 'csv' } = {}): Promise<Response> =>
        transport.open({ method: 'GET', path: `${v1}/reports/tasks`, query: { format, ...filter }, signal }),
      /** What ended in a range of time, by template: counts, durations, and the slowest steps. */
      trends: ({ signal, ...query }: shapes.ReportQuery & CallOptions = {}) =>
        transport.json<TrendsView>({ method: 'GET', path: `${v1}/reports/trends`, query, signal }),
      /** How long tasks take, what is in use, and how available the service was, over the last hours. */
      performance: ({ signal, ...query }: CallOptions & { readonly hours?: number } = {}) =>
        transport.json<shapes.Performance>({ method: 'GET', path: `${v1}/reports/performance`, query, signal }),
      /** Failed tasks by what went wrong; `ids` of them are named. */
      errors: ({ signal, ...query }: shapes.ReportQuery & CallOptions & { readonly group?: string; readonly ids?: number } = {}) =>
        transport.json<ErrorGroupsView>({ method: 'GET', path: `${v1}/reports/errors`, query, signal }),
    },
    checkpoints: {
      create: (request: shapes.NewCheckpoint = {}, { signal }: CallOptions = {}) =>
        transport.json<CheckpointView>({ method: 'POST', path: `${v1}/checkpoints`, body: request, signal }),
      list: (call?: CallOptions) => get<shapes.Checkpoints>('/checkpoints', call),
      get: (id: number, call?: CallOptions) => get<CheckpointDetailView>(`/checkpoints/${id}`, call),
      restore: (id: number, { signal }: CallOptions = {}) =>
        transport.json<shapes.Restored>({ method: 'POST', path: `${v1}/checkpoints/${id}/restore`, signal }),
    },
    users: {
      /** Everybody who signs in with a password; these are for administrators, save the last. */
      list: (call?: CallOptions) => get<UserListView>('/users', call),
      create: (user: CreateUserRequest, { signal }: CallOptions = {}) => transport.json<UserView>({ method: 'POST', path: `${v1}/users`, body: user, signal }),
      change: (id: string, change: ChangeUserRequest, { signal }: CallOptions = {}) =>
        transport.json<UserView>({ method: 'PATCH', path: `${v1}/users/${part(id)}`, body: change, signal }),
      remove: async (id: string, { signal }: CallOptions = {}): Promise<void> =>
        void (await transport.text({ method: 'DELETE', path: `${v1}/users/${part(id)}`, repeatable: false, signal })),
      /** Sets the password of the key's own user. */
      changeOwnPassword: async (passwords: ChangePasswordRequest, { signal }: CallOptions = {}): Promise<void> =>
        void (await transport.text({ method: 'PATCH', path: `${v1}/users/me/password`, body: passwords, repeatable: false, signal })),
    },
    /** Who the key belongs to, and what it may do. */
    caller: (call?: CallOptions) => get<CurrentCallerView>('/sessions/current', call),
    /** A text that signs a browser in once, at `/sign-in#ticket=<ticket>`, with the rights of the API key. */
    signInTicket: ({ signal }: CallOptions = {}) =>
      transport.json<SignInTicketView>({ method: 'POST', path: `${v1}/sign-in-tickets`, repeatable: true, signal }),
    /** Every key of the configuration in force, without its secrets; for administrators. */
    config: (call?: CallOptions) => get<ConfigurationView>('/config', call),
    health: (call?: CallOptions) => get<HealthView>('/health', call),
  };

  function orderModel(action: string, name: string, { signal, ...order }: shapes.ModelOrderOptions & CallOptions = {}): Promise<shapes.ModelOrder> {
    return transport.json({ method: 'POST', path: `${v1}/models/${part(name)}/${action}`, body: order, signal });
  }
}
