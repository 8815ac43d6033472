import path from 'node:path';
import type { ConfigurationView } from '../contract/schemas/configuration.js';
import type { CreateTaskRequest } from '../contract/schemas/task.js';
import type { TaskStatus } from '../contract/status.js';
import { countTasks } from '../db/tasks.js';
import type { StepRegistry } from '../templates/parse-template.js';
import { type ApiKeyUseCases, apiKeyUseCases } from './api-keys.js';
import { bulkTasksUseCase } from './bulk-tasks.js';
import { passwordChecks, type PasswordChecks } from './check-password.js';
import { cancelTaskUseCase } from './cancel-task.js';
import { type ChangeFeed, createChangeFeed, type ListenChanges } from './changes.js';
import { type Caller, streamHolderOf } from './caller.js';
import { type CheckpointUseCases, checkpointUseCases } from './checkpoints.js';
import { type CatalogueNow, compileRequest, type Deployment } from './compile-request.js';
import { createBatchUseCase } from './create-batch.js';
import { createTaskUseCase } from './create-task.js';
import { configurationView, type EffectiveConfiguration } from './configuration.js';
import { type DependencyUseCases, dependencyUseCases } from './change-dependencies.js';
import type { ServiceDeps } from './deps.js';
import { errorGroupsUseCase } from './error-groups.js';
import { createEventFeed, type EventFeedConfig, type ListenEvents } from './event-feed.js';
import { type EventUseCases, eventUseCases } from './events.js';
import { estimatesReader, forecastReader } from './forecasts.js';
import { getTaskUseCase } from './get-task.js';
import { type HealthUseCases, healthUseCases } from './health.js';
import { listDecisionsUseCase } from './list-decisions.js';
import { listExecutionsUseCase } from './list-executions.js';
import { listHistoryUseCase } from './list-history.js';
import { listModelsUseCase } from './list-models.js';
import { listRelationsUseCase } from './list-relations.js';
import { listResourcesUseCase } from './list-resources.js';
import { listStepsUseCase } from './list-steps.js';
import { holdTaskUseCase } from './hold-task.js';
import { listQueueUseCase } from './list-queue.js';
import { listTasksUseCase } from './list-tasks.js';
import { type LockUseCases, lockUseCases } from './locks.js';
import { type ModelOrderUseCases, modelOrderUseCases } from './model-orders.js';
import { type FlushMetrics, metricsUseCase } from './metrics.js';
import { modelTimelineUseCase } from './model-timeline.js';
import { type ObservationUseCases, observationUseCases } from './observations.js';
import { moveTaskUseCase } from './move-task.js';
import { createPatternThread } from './pattern-thread.js';
import { type PauseUseCases, pauseUseCases } from './pauses.js';
import { previewMoveUseCase } from './preview-move.js';
import { previewTaskUseCase } from './preview-task.js';
import { replayTaskUseCase } from './replay-task.js';
import { reportTasksUseCase } from './report-tasks.js';
import { requestOfTaskUseCase } from './request-of-task.js';
import { retryTaskUseCase } from './retry-task.js';
import { sessionUseCases, type SessionUseCases } from './sessions.js';
import { setPriorityUseCase } from './set-priority.js';
import { createStartsUnderWay } from './start-task.js';
import { type SystemUseCases, systemUseCases } from './system-report.js';
import { type TemplateUseCases, templateUseCases } from './templates.js';
import { trendsUseCase } from './trends.js';
import { type UserUseCases, userUseCases } from './users.js';

/** Every use case, the only way into the house for the API, the dashboard and what comes later. */
export interface Services
  extends ApiKeyUseCases,
    CheckpointUseCases,
    DependencyUseCases,
    HealthUseCases,
    LockUseCases,
    ModelOrderUseCases,
    ObservationUseCases,
    PauseUseCases,
    Pick<PasswordChecks, 'verifyPassword'>,
    SessionUseCases,
    SystemUseCases,
    TemplateUseCases,
    UserUseCases {
  readonly createTask: ReturnType<typeof createTaskUseCase>;
  readonly createBatch: ReturnType<typeof createBatchUseCase>;
  readonly bulkTasks: ReturnType<typeof bulkTasksUseCase>;
  readonly reportTasks: ReturnType<typeof reportTasksUseCase>;
  readonly listHistory: ReturnType<typeof listHistoryUseCase>;
  readonly trends: ReturnType<typeof trendsUseCase>;
  readonly errorGroups: ReturnType<typeof errorGroupsUseCase>;
  readonly previewTask: ReturnType<typeof previewTaskUseCase>;
  readonly replayTask: ReturnType<typeof replayTaskUseCase>;
  readonly requestOfTask: ReturnType<typeof requestOfTaskUseCase>;
  readonly getTask: ReturnType<typeof getTaskUseCase>;
  readonly events: EventUseCases;
  /** tells open pages that something has changed */
  readonly changes: Omit<ChangeFeed, 'close'>;
  /** Takes one of the streams that a key or a user may have. @returns what gives it back. @throws {ProblemError} too_many_streams */
  readonly openStream: (caller: Caller) => () => void;
  readonly listTasks: ReturnType<typeof listTasksUseCase>;
  readonly cancelTask: ReturnType<typeof cancelTaskUseCase>;
  readonly setPriority: ReturnType<typeof setPriorityUseCase>;
  readonly listDecisions: ReturnType<typeof listDecisionsUseCase>;
  readonly listQueue: ReturnType<typeof listQueueUseCase>;
  readonly moveTask: ReturnType<typeof moveTaskUseCase>;
  readonly previewMove: ReturnType<typeof previewMoveUseCase>;
  readonly holdTask: ReturnType<typeof holdTaskUseCase>;
  readonly retryTask: ReturnType<typeof retryTaskUseCase>;
  readonly listExecutions: ReturnType<typeof listExecutionsUseCase>;
  readonly listSteps: ReturnType<typeof listStepsUseCase>;
  readonly listRelations: ReturnType<typeof listRelationsUseCase>;
  readonly listResources: ReturnType<typeof listResourcesUseCase>;
  readonly listModels: ReturnType<typeof listModelsUseCase>;
  readonly modelTimeline: ReturnType<typeof modelTimelineUseCase>;
  /** in Prometheus' text format */
  readonly metrics: () => Promise<string>;
  /** the configuration of this process, without secrets */
  readonly configuration: () => ConfigurationView;
  /** how many tasks of everybody have each status */
  readonly countTasks: () => Promise<Record<TaskStatus, number>>;
  /** Ends every stream of events and takes no more; they last, so a server that is to end waits for none of them. */
  readonly endStreams: () => Promise<void>;
  /** Resolves when nothing is under way that outlives its request; wait for it before the connections are closed. */
  readonly settled: () => Promise<void>;
}

export interface ServicesDeps extends ServiceDeps {
  readonly catalogue: CatalogueNow;
  /** every step type there is */
  readonly steps: StepRegistry;
  readonly deployment: Deployment;
  readonly configuration: EffectiveConfiguration;
  readonly flushMetrics: FlushMetrics;
  /** `listen` null: a stream looks once a second */
  readonly events: EventFeedConfig & { readonly listen: ListenEvents | null };
  /** null: open pages are told once a second that there may be something new */
  readonly listenChanges?: ListenChanges | null;
}

/** Builds the use cases; opens nothing and starts nothing. */
export function createServices(deps: ServicesDeps): Services {
  const starts = createStartsUnderWay();
  const forecastNow = forecastReader(deps.sql);
  const estimates = estimatesReader(forecastNow);
  // One thread for patterns of installed templates and one for those that callers bring, so that the latter keep no task from being taken.
  const [installed, brought] = [createPatternThread(), createPatternThread()];
  const compile = (request: CreateTaskRequest) => compileRequest(deps.catalogue(), deps.deployment, installed, request);
  const createTask = createTaskUseCase(deps, compile, starts);
  const feed = createEventFeed({ sql: deps.sql, config: deps.events, listen: deps.events.listen, log: deps.log });
  const changes = createChangeFeed({ listen: deps.listenChanges ?? null, forecastNow, log: deps.log });
  const keys = apiKeyUseCases(deps);
  const passwords = passwordChecks(deps);
  const { forgetUser, ...sessions } = sessionUseCases(deps, keys, passwords);
  const users = userUseCases(deps, passwords, (id) => {
    passwords.forgetUser(id);
    forgetUser(id);
  });
  const health = healthUseCases(deps);
  return {
    ...keys,
    ...sessions,
    ...users,
    verifyPassword: passwords.verifyPassword,
    ...health,
    ...observationUseCases(deps),
    ...systemUseCases(deps, {
      health: health.health,
      brokenTemplates: () => deps.catalogue().broken.map(({ file }) => path.basename(file)),
      streams: () => feed.streams,
    }),
    ...checkpointUseCases(deps, deps.catalogue),
    ...dependencyUseCases(deps),
    ...lockUseCases(deps),
    ...modelOrderUseCases(deps, deps.deployment),
    ...pauseUseCases(deps, deps.deployment),
    ...templateUseCases(deps.catalogue, deps.steps, brought),
    createTask,
    createBatch: createBatchUseCase(deps, compile),
    bulkTasks: bulkTasksUseCase(deps),
    reportTasks: reportTasksUseCase(deps),
    listHistory: listHistoryUseCase(deps),
    trends: trendsUseCase(deps),
    errorGroups: errorGroupsUseCase(deps),
    previewTask: previewTaskUseCase(deps, compile),
    replayTask: replayTaskUseCase(deps, createTask),
    requestOfTask: requestOfTaskUseCase(deps),
    getTask: getTaskUseCase(deps, estimates),
    events: eventUseCases(deps, feed),
    changes,
    openStream: (caller) => feed.open(streamHolderOf(caller)),
    async endStreams() {
      await Promise.all([feed.close(), changes.close()]);
    },
    listTasks: listTasksUseCase(deps, estimates),
    cancelTask: cancelTaskUseCase(deps),
    setPriority: setPriorityUseCase(deps),
    listDecisions: listDecisionsUseCase(deps, deps.deployment),
    listQueue: listQueueUseCase(deps, deps.deployment, forecastNow),
    moveTask: moveTaskUseCase(deps),
    previewMove: previewMoveUseCase(deps),
    holdTask: holdTaskUseCase(deps),
    retryTask: retryTaskUseCase(deps),
    listExecutions: listExecutionsUseCase(deps),
    listSteps: listStepsUseCase(deps, deps.catalogue),
    listRelations: listRelationsUseCase(deps),
    listResources: listResourcesUseCase(deps),
    listModels: listModelsUseCase(deps, deps.deployment),
    modelTimeline: modelTimelineUseCase(deps, forecastNow),
    metrics: metricsUseCase({ sql: deps.sql, counted: deps.flushMetrics, streams: () => feed.streams }),
    configuration: () => configurationView(deps.configuration),
    countTasks: () => countTasks(deps.sql),
    settled: () => starts.settled(),
  };
}
