import type { ApiRoute } from '../define-route.js';
import { deleteLock } from './delete-lock.js';
import { deleteTaskDependency } from './delete-task-dependency.js';
import { deleteTask } from './delete-task.js';
import { deleteSession } from './delete-session.js';
import { deleteUser } from './delete-user.js';
import { getConfig } from './get-config.js';
import { getEvents } from './get-events.js';
import { getTaskEvents } from './get-task-events.js';
import { getCheckpoint } from './get-checkpoint.js';
import { getErrorGroups } from './get-error-groups.js';
import { getTaskReport } from './get-task-report.js';
import { getTrends } from './get-trends.js';
import { getModelOrder } from './get-model-order.js';
import { getModelTimeline } from './get-model-timeline.js';
import { getTemplate } from './get-template.js';
import { getTemplateDocs } from './get-template-docs.js';
import { getTemplateSchema } from './get-template-schema.js';
import { getQueue } from './get-queue.js';
import { getHealth } from './get-health.js';
import { getSession } from './get-session.js';
import { getTask } from './get-task.js';
import { deleteQueuePause } from './delete-queue-pause.js';
import { healthz } from './healthz.js';
import { listCheckpoints } from './list-checkpoints.js';
import { listDecisions } from './list-decisions.js';
import { listLocks } from './list-locks.js';
import { listModels } from './list-models.js';
import { listResources } from './list-resources.js';
import { listQueuePauses } from './list-queue-pauses.js';
import { listTaskExecutions } from './list-task-executions.js';
import { listTaskRelations } from './list-task-relations.js';
import { listTaskSteps } from './list-task-steps.js';
import { listTasks } from './list-tasks.js';
import { listTemplates } from './list-templates.js';
import { listUsers } from './list-users.js';
import { patchOwnPassword } from './patch-own-password.js';
import { patchTaskPriority } from './patch-task-priority.js';
import { patchUser } from './patch-user.js';
import { postCheckpoint } from './post-checkpoint.js';
import { postCheckpointRestore } from './post-checkpoint-restore.js';
import { postQueuePause } from './post-queue-pause.js';
import { postQueueReorder } from './post-queue-reorder.js';
import { postQueueReorderPreview } from './post-queue-reorder-preview.js';
import { postSession } from './post-session.js';
import { postSignInTicket } from './post-sign-in-ticket.js';
import { postTaskHold } from './post-task-hold.js';
import { postTaskRelease } from './post-task-release.js';
import { postTask } from './post-task.js';
import { postTaskDependency } from './post-task-dependency.js';
import { postLock } from './post-lock.js';
import { postModelLoad } from './post-model-load.js';
import { postModelPull } from './post-model-pull.js';
import { postModelUnload } from './post-model-unload.js';
import { postTaskBatch } from './post-task-batch.js';
import { postTaskBulk } from './post-task-bulk.js';
import { postTaskReplay } from './post-task-replay.js';
import { postTaskRetry } from './post-task-retry.js';
import { postTemplateValidate } from './post-template-validate.js';
import { postUser } from './post-user.js';
import { readyz } from './readyz.js';
import { getSystem } from './get-system.js';
import { listAlerts } from './list-alerts.js';
import { getPerformanceReport } from './get-performance-report.js';
import { getResourceUsage } from './get-resource-usage.js';

/** Every endpoint of the API, in the order of the document. */
export const routes: readonly ApiRoute[] = [
  postTask,
  listTasks,
  getTask,
  deleteTask,
  patchTaskPriority,
  postTaskRetry,
  postTaskHold,
  postTaskRelease,
  postTaskReplay,
  postTaskBatch,
  postTaskBulk,
  getTaskReport,
  getTrends,
  getErrorGroups,
  listTaskExecutions,
  listTaskSteps,
  listTaskRelations,
  getTaskEvents,
  getEvents,
  postTaskDependency,
  deleteTaskDependency,
  listLocks,
  postLock,
  deleteLock,
  listResources,
  getQueue,
  listDecisions,
  postQueueReorder,
  postQueueReorderPreview,
  listQueuePauses,
  postQueuePause,
  deleteQueuePause,
  listTemplates,
  getTemplate,
  getTemplateDocs,
  postTemplateValidate,
  getTemplateSchema,
  listModels,
  getModelTimeline,
  postModelLoad,
  postModelUnload,
  postModelPull,
  getModelOrder,
  getHealth,
  getSystem,
  listAlerts,
  getPerformanceReport,
  getResourceUsage,
  healthz,
  readyz,
  postSession,
  getSession,
  deleteSession,
  postSignInTicket,
  listUsers,
  postUser,
  patchUser,
  deleteUser,
  patchOwnPassword,
  getConfig,
  postCheckpoint,
  listCheckpoints,
  getCheckpoint,
  postCheckpointRestore,
];
