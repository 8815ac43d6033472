import type { z } from 'zod';
import type { CheckpointList, CreateCheckpoint, RestoredCheckpoint } from '../contract/schemas/checkpoint.js';
import type { DecisionListView } from '../contract/schemas/decision.js';
import type { ExecutionList } from '../contract/schemas/execution.js';
import type { BatchItem, BatchResult as BatchResultSchema, BulkRequest, BulkResult as BulkResultSchema } from '../contract/schemas/many.js';
import type { ModelTimelineView } from '../contract/schemas/model-timeline.js';
import type { ModelList, ModelOrderView, OrderModel } from '../contract/schemas/model.js';
import type { AlertList, PerformanceReport, ResourceUsageHistory, SystemReportView } from '../contract/schemas/observations.js';
import type { TaskPreviewView } from '../contract/schemas/task-preview.js';
import type { TaskRelationsView } from '../contract/schemas/task-relations.js';
import type { TaskStepsView } from '../contract/schemas/task-steps.js';
import type { PauseListView, PauseQueue, PauseTarget, QueueMovePreviewView, QueueMoveView, QueueView, ReorderQueue } from '../contract/schemas/queue.js';
import type { AddDependency, CreateTask, ReplayTask, TaskList } from '../contract/schemas/task.js';
import type { TemplateDetailView, TemplateListView, TemplateSummaryView, TemplateVerdictView } from '../contract/schemas/template-view.js';

/** What a caller writes: fields with a default may be left out. */
export type NewTask = z.input<typeof CreateTask>;
export type NewDependency = z.input<typeof AddDependency>;
export type NewCheckpoint = z.input<typeof CreateCheckpoint>;
export type NewBatchItem = z.input<typeof BatchItem>;
/** The input of a task again, with changes; a parameter that is null is taken away. */
export type Replay = z.input<typeof ReplayTask>;
/** Something to do to many tasks: those with the ids, or those that fit the filter. */
export type Bulk = z.input<typeof BulkRequest>;
export type ModelOrderOptions = z.input<typeof OrderModel>;

/** Exactly one of `before` and `after`. */
export type Reorder = z.input<typeof ReorderQueue>;
/** The whole queue, unless a host or a model is named. */
export type PauseTargetOptions = z.input<typeof PauseTarget>;
export type PauseOptions = z.input<typeof PauseQueue>;

export type QueuePage = QueueView;
export type DecisionPage = DecisionListView;
export type QueueMove = QueueMoveView;
export type QueueMovePreview = QueueMovePreviewView;
export type ModelTimeline = ModelTimelineView;
export type Alerts = z.output<typeof AlertList>;
export type SystemParts = SystemReportView;
export type Performance = z.output<typeof PerformanceReport>;
export type ResourceUsage = z.output<typeof ResourceUsageHistory>;
export type Pauses = PauseListView;
export type TaskPage = z.output<typeof TaskList>;
export type TaskPreview = TaskPreviewView;
export type TaskSteps = TaskStepsView;
export type TaskRelations = TaskRelationsView;
export type ExecutionPage = z.output<typeof ExecutionList>;
export type BatchResult = z.output<typeof BatchResultSchema>;
export type BulkResult = z.output<typeof BulkResultSchema>;
export type Models = z.output<typeof ModelList>;
export type ModelOrder = ModelOrderView;
export type Checkpoints = z.output<typeof CheckpointList>;
export type Restored = z.output<typeof RestoredCheckpoint>;
export type Templates = TemplateListView;
export type TemplateDetail = TemplateDetailView;
export type Validation = TemplateVerdictView;
/** A parameter as a template declares it. */
export type DeclaredParameter = TemplateSummaryView['parameters'][number];

/** Filters of the queue; values of one filter are alternatives. */
export interface QueueFilter {
  readonly task_id?: readonly string[];
  /** names or aliases */
  readonly model?: readonly string[];
  readonly user?: readonly string[];
  readonly pool?: readonly ('general' | 'model')[];
  readonly status_detail?: readonly string[];
  readonly template?: readonly string[];
  /** 1 to 10 */
  readonly priority?: readonly number[];
}

/** Filters of decisions; values of one filter are alternatives. */
export interface DecisionFilter {
  readonly task_id?: string;
  /** names or aliases */
  readonly model?: readonly string[];
  readonly host?: readonly string[];
  readonly kind?: readonly ('grant' | 'residency' | 'refusal' | 'deadlock')[];
}

/** Filters of lists and reports; values of one filter are alternatives. */
export interface TaskFilter {
  readonly status?: readonly string[];
  readonly template?: readonly string[];
  readonly priority?: readonly number[];
  readonly type?: readonly string[];
  readonly user_id?: readonly string[];
  /** a text that the name contains */
  readonly name?: string;
  /** ISO 8601 */
  readonly created_after?: string;
  readonly created_before?: string;
  readonly ended_after?: string;
  readonly ended_before?: string;
}

/** Which tasks trends and groups of errors tell of. */
export interface ReportQuery {
  /** default 24h */
  readonly range?: '24h' | '7d' | '30d';
  readonly template?: readonly string[];
}
