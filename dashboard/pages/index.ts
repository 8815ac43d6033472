import type { Page } from '../page.js';
import { modelsPage } from './models.js';
import { queuePage } from './queue.js';

/** Every page of the dashboard. */
export const pages: readonly Page[] = [queuePage, modelsPage];
