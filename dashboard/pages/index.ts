import type { Page } from '../page.js';
import { accountPage } from './account.js';
import { historyPage } from './history.js';
import { modelsPage } from './models.js';
import { queuePage } from './queue.js';
import { resourcesPage } from './resources.js';
import { systemPage } from './system.js';
import { taskPage } from './task.js';
import { templatePage } from './template.js';
import { templatesPage } from './templates.js';
import { trendsPage } from './trends.js';
import { usersPage } from './users.js';

/** Every page of the dashboard. */
export const pages: readonly Page[] = [
  queuePage,
  modelsPage,
  templatesPage,
  templatePage,
  taskPage,
  historyPage,
  trendsPage,
  resourcesPage,
  systemPage,
  accountPage,
  usersPage,
];
