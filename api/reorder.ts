import { ReorderQueue } from '../contract/schemas/queue.js';
import { jsonBody } from './json-content.js';
import { problems } from './problem.js';

/** What a move and its preview are asked with, and what refuses either of them. */
export const reorderRequest = { body: jsonBody(ReorderQueue, 'Where the task is to stand') };
export const reorderProblems = problems(
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
);
