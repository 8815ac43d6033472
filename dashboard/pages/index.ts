import type { Page } from '../page.js';
import { modelsPage } from './models.js';
import { queuePage } from './queue.js';
import { resourcesPage } from './resources.js';
import { systemPage } from './system.js';
import { taskPage } from './task.js';
import { templatePage } from './template.js';
import { templatesPage } from './templates.js';

/** Every page of the dashboard. */
export const pages: readonly Page[] = [queuePage, modelsPage, templatesPage, templatePage, taskPage, resourcesPage, systemPage];
