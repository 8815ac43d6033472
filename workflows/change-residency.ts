import {
  ActivityCancellationType,
  ActivityFailure,
  ApplicationFailure,
  CancellationScope,
  condition,
  continueAsNew,
  isCancellation,
  patched,
  proxyActivities,
  proxyLocalActivities,
  rootCause,
  setHandler,
  sleep,
  TimeoutFailure,
  workflowInfo,
} from '@temporalio/workflow';
import type { OrderActivities, PullRequest, ResidencyActivities } from '../activities/residency.js';
import { failureCodes } from '../contract/failure.js';
import { hostQueue, type ResidencyKey } from '../contract/queues.js';
import { hostLost, type OrderFailure, type ResidencyOrder } from '../contract/residency.js';
import { orderSignal, type ResidencyProgress, type ResidencyStart, residencyProgressQuery } from './change-residency.messages.js';

const orders = proxyLocalActivities<OrderActivities>({
  // A hung connection: one short transaction, so a longer call is cut and repeated.
  startToCloseTimeout: '10 seconds',
  // PostgreSQL away: closing an order may be repeated, and an order left open would block its host.
  retry: { initialInterval: '100 milliseconds', backoffCoefficient: 2, maximumInterval: '10 seconds' },
});

/** How often, and how long, a fetched model that somebody asked for waits until its host is free to load it. */
const freePollMs = 2_000;
const freePollsMax = 150;

/** What is the same for every activity on the host. */
const onHost = {
  // Catches a killed host; every activity beats each 2 s.
  heartbeatTimeout: '20 seconds',
  // Catches a host that went away between the order and its first activity.
  scheduleToStartTimeout: '30 seconds',
  // Failures with a name are not retried here: the order fails, and the next decision orders anew with the facts of that time.
  // What is left is PostgreSQL being away or a bug, so repeat until the schedule-to-close time-out.
  retry: { initialInterval: '1 second', backoffCoefficient: 2, maximumInterval: '10 seconds' },
  // The slot, the row and the model belong to the epoch, which the activity checks; nobody waits for a host that is gone.
  cancellationType: ActivityCancellationType.TRY_CANCEL,
} as const;

/**
 * Changes what one host holds in memory, one order after the other, or fetches a model for it; ends when no order is left.
 * Workflow id {@link orderWorkflowId}. An order whose id or epoch is no longer the host's has no effect.
 * A signal that arrives while the run completes makes the server refuse the completion, so that no order is lost.
 */
export async function changeResidency({ host, orders: inherited = [] }: ResidencyStart): Promise<void> {
  const waiting: ResidencyOrder[] = [...inherited];
  let progress: Omit<ResidencyProgress, 'waiting'> = { order: null, phase: 'idle' };
  let current: { readonly order: ResidencyOrder; readonly scope: CancellationScope } | null = null;
  const show = (order: string | null, phase: ResidencyProgress['phase']) => {
    progress = { order, phase };
  };
  setHandler(residencyProgressQuery, () => ({ ...progress, waiting: waiting.length }));
  setHandler(orderSignal, (order) => {
    if (order.host !== host || order.id === current?.order.id || waiting.some(({ id }) => id === order.id)) return;
    waiting.push(order);
    // The host process that worked on the current order is gone: do not wait for its heartbeat to run out.
    if (current && order.hostEpoch > current.order.hostEpoch) current.scope.cancel();
  });

  // Only a start without a signal, by hand, finds nothing here.
  await condition(() => waiting.length > 0, '10 seconds');
  for (let order = waiting.shift(); order; order = waiting.shift()) {
    const { id } = order;
    const scope = new CancellationScope();
    current = { order, scope };
    const failure = await scope
      .run(() => carryOut(order, (phase) => show(id, phase)))
      .then(
        () => null,
        (error: unknown): OrderFailure => ({ ...failureOf(error), ...phaseOf(progress.phase) }),
      );
    if (failure) {
      show(id, 'abandoning');
      await CancellationScope.nonCancellable(() => orders.abandonOrder(order, failure));
    }
    current = null;
    show(null, 'idle');
    if (workflowInfo().continueAsNewSuggested) await continueAsNew<typeof changeResidency>({ host, orders: waiting });
  }
}

/** From this change on a model is fetched by an order of its own, while its host goes on with others. */
const fetchApart = 'fetch-apart';

async function carryOut(order: ResidencyOrder, show: (phase: ResidencyProgress['phase']) => void): Promise<void> {
  const { id: orderId, host, hostEpoch, unload, load } = order;
  const taskQueue = hostQueue(host);
  if (order.pull !== undefined) return fetchModel(order, order.pull, () => show('pulling'));
  if (unload.length > 0) {
    show('draining');
    const { drainAndUnload } = proxyActivities<ResidencyActivities>({
      ...onHost,
      taskQueue,
      // Catches a drain that never ends. An inference that runs may take as long as its step allows, and is never cut for a change.
      scheduleToCloseTimeout: '24 hours',
      summary: `unload ${named(unload)}`,
    });
    const drained = await drainAndUnload({ orderId, host, hostEpoch, keys: unload, last: load === null, ...(load === null ? {} : { needs: load.model }) });
    if (drained === 'stale') return;
    if (drained === 'missing') return orders.fetchFirst(order);
  }
  if (!load) return;
  const { loadAndServe } = proxyActivities<ResidencyActivities>({
    ...onHost,
    taskQueue,
    // Catches a load that neither ends nor fails; the backend has a shorter deadline of its own.
    scheduleToCloseTimeout: '1 hour',
    summary: `load ${load.model.name}`,
  });
  show('loading');
  const request = { orderId, host, hostEpoch, key: load.key, model: load.model };
  if ((await loadAndServe(request)) !== 'missing') return;
  if (patched(fetchApart)) return orders.fetchFirst(order);
  show('pulling');
  if ((await pullOn(taskQueue, request)) === 'stale') return;
  show('loading');
  if ((await loadAndServe(request)) === 'missing') {
    throw ApplicationFailure.nonRetryable(`${load.model.name} is not there after its pull`, failureCodes.modelPullFailed, { retryable: true });
  }
}

/** Nothing of the host's memory changes here. What the engine ordered ends with the fetch, and the next decision loads it; what a person asked to be loaded is handed on. */
async function fetchModel(order: ResidencyOrder, name: string, show: () => void): Promise<void> {
  const { id: orderId, host, hostEpoch } = order;
  const apart = patched(fetchApart);
  show();
  const request = { orderId, host, hostEpoch, key: order.load?.key ?? null, model: { name }, last: !apart };
  if ((await pullOn(hostQueue(host), request)) === 'stale' || !apart) return;
  for (let polls = 0; (await orders.fetched(order)) === 'busy'; polls += 1) {
    if (polls >= freePollsMax)
      throw ApplicationFailure.nonRetryable(`${host} has changed other models all the time since ${name} was fetched`, failureCodes.modelLoadTimeout);
    await sleep(freePollMs);
  }
}

function pullOn(taskQueue: string, request: PullRequest): Promise<'done' | 'stale'> {
  const { pullModel } = proxyActivities<ResidencyActivities>({
    ...onHost,
    taskQueue,
    // Catches a pull that creeps for ever; one that stands still is cut by the backend.
    scheduleToCloseTimeout: '24 hours',
    summary: `pull ${request.model.name}`,
  });
  return pullModel(request);
}

function phaseOf(phase: ResidencyProgress['phase']): Pick<OrderFailure, 'phase'> {
  return phase === 'draining' || phase === 'pulling' || phase === 'loading' ? { phase } : {};
}

function named(keys: readonly ResidencyKey[]): string {
  return keys.join(', ');
}

/** What ended an order before it was carried out, as the waiting tasks will read it. */
function failureOf(error: unknown): OrderFailure {
  if (isCancellation(error)) return { code: hostLost, message: 'the host started anew, or the change was cancelled', retryable: true };
  const cause = error instanceof ActivityFailure ? error.cause : error;
  if (cause instanceof TimeoutFailure) {
    const lost = cause.timeoutType === 'HEARTBEAT' || cause.timeoutType === 'SCHEDULE_TO_START';
    return lost
      ? { code: hostLost, message: 'the host does not answer', retryable: true }
      : { code: failureCodes.modelLoadTimeout, message: 'the change of models passed its time limit', retryable: true };
  }
  if (cause instanceof ApplicationFailure) {
    const retryable = (cause.details?.[0] as { retryable?: boolean } | undefined)?.retryable ?? true;
    return { code: cause.type ?? failureCodes.unexpected, message: cause.message, retryable };
  }
  return { code: failureCodes.unexpected, message: rootCause(error) ?? 'the change of models failed', retryable: true };
}
