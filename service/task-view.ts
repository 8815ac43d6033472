import type { ResourceUsageView, TaskView } from '../contract/schemas/task.js';
import { isFinal } from '../contract/status.js';
import type { TaskRow } from '../db/tasks.js';
import { noEstimate, type TaskEstimate } from './forecasts.js';

/**
 * A stored task as the API shows it.
 * @param estimate what the last forecast says of it; it counts for a task that has not ended
 */
export function taskView(row: TaskRow, estimate: TaskEstimate = noEstimate): TaskView {
  const open = !isFinal(row.status);
  return {
    id: row.id,
    status: row.status,
    priority: row.level,
    created_at: row.createdAt.toISOString(),
    started_at: row.startedAt?.toISOString() ?? null,
    completed_at: row.completedAt?.toISOString() ?? null,
    template: row.template,
    parameters: row.parameters,
    result: row.result,
    resource_usage: row.resourceUsage as ResourceUsageView | null,
    name: row.name,
    type: row.type,
    depends_on: row.dependsOn,
    blocked_by: row.blockedBy,
    status_detail: row.statusDetail,
    attempt: row.attempt,
    error: row.error,
    estimated_start_time: row.status === 'queued' ? (estimate.startsAt?.toISOString() ?? null) : null,
    estimated_completion_time: open ? (estimate.completesAt?.toISOString() ?? null) : null,
    queue_position: row.queuePosition,
    user_id: row.userId,
    metadata: row.metadata,
    models: row.models,
    template_hash: row.templateHash,
    replayed_from: row.replayedFrom,
    origin_id: row.originId,
  };
}
