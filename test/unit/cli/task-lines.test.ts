import { expect, test } from 'vitest';
import type { TaskView } from '../../../contract/schemas/task.js';
import { standing } from '../../../cli/task-lines.js';
import { statusDetails } from '../../../contract/status.js';

const shown = (detail: TaskView['status_detail']) => standing({ status: 'queued', status_detail: detail } as TaskView);

test('why a task waits is said in words, for each reason there is', () => {
  for (const detail of statusDetails) expect(shown(detail)).toMatch(/^queued, (?!.*_)\w+ /);
  expect([shown('waiting_lock'), shown('waiting_resource'), shown(null)]).toEqual([
    'queued, waits for a lock that another task has',
    'queued, waits for resources that other tasks hold',
    'queued',
  ]);
});
