import type { AddCommand } from '../command.js';
import { addAlerts } from './alerts.js';
import { addBatch } from './batch.js';
import { addCancel } from './cancel.js';
import { addCheckpoint } from './checkpoint.js';
import { addConfig } from './config.js';
import { addCompletion } from './completion.js';
import { addDashboard } from './dashboard.js';
import { addDepend } from './depend.js';
import { addErrors } from './errors.js';
import { addList } from './list.js';
import { addLocal } from './local.js';
import { addLocks, addResources } from './locks.js';
import { addLogs } from './logs.js';
import { addModels, addPull } from './models.js';
import { addPerformance } from './performance.js';
import { addPriority } from './priority.js';
import { addHold, addMove, addPause, addQueue, addRelease, addResume } from './queue.js';
import { addReplay } from './replay.js';
import { addReport } from './report.js';
import { addRetry } from './retry.js';
import { addShow } from './show.js';
import { addStatus } from './status.js';
import { addSubmit } from './submit.js';
import { addTemplates } from './templates.js';
import { addTop } from './top.js';
import { addTrends } from './trends.js';
import { addUsers } from './users.js';
import { addWhy } from './why.js';

/** Every command, in the order of the help. */
export const commands: readonly AddCommand[] = [
  addSubmit,
  addList,
  addShow,
  addWhy,
  addLogs,
  addCancel,
  addRetry,
  addReplay,
  addPriority,
  addDepend,
  addQueue,
  addMove,
  addHold,
  addRelease,
  addPause,
  addResume,
  addTop,
  addBatch,
  addReport,
  addTrends,
  addErrors,
  addPerformance,
  addTemplates,
  addModels,
  addPull,
  addResources,
  addLocks,
  addCheckpoint,
  addConfig,
  addStatus,
  addAlerts,
  addDashboard,
  addUsers,
  addLocal,
  addCompletion,
];
