import { ReorderQueue } from '../contract/schemas/queue.js';
import { jsonBody } from './json-content.js';

/** What a move and its preview are asked with, and by which codes either of them is refused. */
export const reorderRequest = { body: jsonBody(ReorderQueue, 'Where the task is to stand') };
export const reorderRefusals = [
  'invalid_json',
  'task_not_found',
  'task_started',
  'neighbour_gone',
  'queue_changed',
  'overtakes_others',
  'task_finished',
  'payload_too_large',
  'unsupported_media_type',
  'invalid_request',
] as const;
