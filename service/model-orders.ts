import { ProblemError } from '../contract/problems.js';
import type { ModelOrderView } from '../contract/schemas/model.js';
import { type ModelAction, type ModelOrderRow, readFailedOrders, readModelOrder, requestModel } from '../db/model-orders.js';
import type { Caller } from './caller.js';
import type { Deployment } from './compile-request.js';
import type { ServiceDeps } from './deps.js';
import { namedModel } from './model-named.js';
import { orderReason } from './order-reason.js';

export interface ModelOrderRequest {
  readonly host?: string | undefined;
  readonly num_ctx?: number | undefined;
}

export interface ModelOrderUseCases {
  /**
   * Asks a host to load, unload or pull a model. The change is a residency order like those of the engine, carried out by the host's Temporal workflow.
   * @param nameText a model's name or an alias
   * @throws {ProblemError} model_refused, unknown_model, model_in_use, model_busy, host_unavailable
   */
  orderModel(caller: Caller, action: ModelAction, nameText: string, request: ModelOrderRequest): Promise<ModelOrderView>;
  /** How far an order is. @throws {ProblemError} not_found */
  getModelOrder(id: string): Promise<ModelOrderView>;
  /** Orders that failed within an hour, the latest of each host, unless one for the same model went well since. */
  failedModelOrders(): Promise<ModelOrderView[]>;
}

/** For how long a failed order is told to whoever looks at the models. */
const failureToldMs = 3_600_000;
/** Tasks that a refusal names. */
const tasksShownMax = 10;
const uuid = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i;

export function modelOrderUseCases({ sql }: ServiceDeps, deployment: Deployment): ModelOrderUseCases {
  const { numCtx, mayPull } = deployment;
  async function read(id: string): Promise<ModelOrderView> {
    const row = uuid.test(id) ? await readModelOrder(sql, id) : null;
    if (row === null) throw new ProblemError('not_found', 'There is no order with this id.');
    return viewOf(row);
  }

  return {
    async orderModel(caller, action, nameText, request) {
      const model = namedModel(deployment, nameText, 'path.name');
      const asked = { action, host: request.host ?? null, model, numCtx: request.num_ctx ?? numCtx, mayPull: mayPull ?? true, user: caller.userId };
      const done = await requestModel(sql, asked);
      switch (done.outcome) {
        case 'ordered':
          return read(done.order);
        case 'unchanged':
          return {
            order_id: null,
            host: done.host,
            model,
            action,
            state: 'done',
            requested_by: caller.userId,
            reason: `${model} is as it was asked for`,
            error: null,
            created_at: null,
            ended_at: null,
          };
        case 'host_unavailable':
          throw new ProblemError(
            'host_unavailable',
            request.host === undefined ? 'No host with a model server is ready.' : `The host "${request.host}" is not there or not ready.`,
          );
        case 'busy':
          throw new ProblemError('model_busy', `The host ${done.host} changes its models at the moment; try again when that is done.`);
        case 'unknown_model':
          throw new ProblemError('unknown_model', `${model} is not installed on ${done.host}, and this installation may not pull models.`);
        case 'in_use':
          throw new ProblemError(
            'model_in_use',
            `${done.tasks.length} tasks use or wait for what would be unloaded: ${done.tasks.slice(0, tasksShownMax).join(', ')}.`,
          );
      }
    },
    getModelOrder: read,
    failedModelOrders: async () => (await readFailedOrders(sql, { withinMs: failureToldMs })).map(viewOf),
  };
}

function viewOf(row: ModelOrderRow): ModelOrderView {
  return {
    order_id: row.id,
    host: row.host,
    model: row.loadModel ?? row.pullModel ?? row.unload.map((key) => key.replace(/~ctx\d+$/, '')).join(', '),
    action: row.loadModel !== null ? 'load' : row.pullModel !== null ? 'pull' : 'unload',
    state: row.state,
    requested_by: row.requestedBy,
    reason: orderReason(row.reason, row.requestedBy, true),
    error: row.error === null ? null : { code: row.error.code, message: row.error.message },
    created_at: row.createdAt.toISOString(),
    ended_at: row.endedAt?.toISOString() ?? null,
  };
}
