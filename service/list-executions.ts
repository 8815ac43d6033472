import type { ExecutionView } from '../contract/schemas/execution.js';
import { type ExecutionRow, listExecutions } from '../db/executions.js';
import { type Caller, ownerOf } from './caller.js';
import type { ServiceDeps } from './deps.js';
import { taskIdOf, taskNotFound } from './task-id.js';

/** Every try of the steps of one of the caller's tasks, oldest first. @throws {ProblemError} task_not_found */
export function listExecutionsUseCase({ sql }: ServiceDeps) {
  return async (caller: Caller, idText: string): Promise<{ items: ExecutionView[] }> => {
    const taskId = taskIdOf(idText);
    const rows = await listExecutions(sql, taskId, ownerOf(caller));
    if (rows === null) throw taskNotFound();
    return { items: rows.map((row) => view(taskId, row)) };
  };
}

function view(taskId: string, row: ExecutionRow): ExecutionView {
  return {
    id: row.id,
    task_id: taskId,
    attempt: row.attempt,
    step: row.step,
    step_type: row.stepType,
    step_attempt: row.stepAttempt,
    try: row.tryNo,
    host: row.host,
    status: row.status,
    started_at: row.startedAt.toISOString(),
    completed_at: row.completedAt.toISOString(),
    cpu_used: row.cpuUsed,
    memory_used: row.memoryUsed,
    exit_code: row.exitCode,
    logs: row.logs,
    metrics: row.metrics,
    error: row.error,
    output_bytes: row.outputBytes,
  };
}
