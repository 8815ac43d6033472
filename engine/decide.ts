import type { Client } from '@temporalio/client';
import type { Logger } from 'pino';
import { taskWorkflowId } from '../contract/ids.js';
import { type Decided, decideOnce, expireGrants, type GrantedSignal, loseHosts } from '../db/decide.js';
import type { Sql } from '../db/connect.js';
import type { Meter } from '../contract/metrics.js';
import { noMeter } from '../metrics.js';
import type { AskingPolicy } from '../scheduling/learned-order.js';
import type { Policy } from '../scheduling/policy.js';
import { isNotFound } from '../temporal/grpc-status.js';
import { signalOnce } from '../temporal/signal-once.js';

/** How often unanswered grants and lapsed leases are looked for. */
const sweepEveryMs = 1_000;
/** The pause before another try when a different engine, or an entering step, holds the decision lock. */
const busyPauseMs = 5;

export interface DeciderDeps {
  readonly sql: Sql;
  readonly client: Client;
  readonly policy: Policy | AskingPolicy;
  /** called when residency orders wait to be delivered */
  readonly onOrders: () => void;
  readonly meter?: Meter;
  readonly log: Logger;
}

/**
 * One run of the decide loop: takes back what nobody answers, lets the policy choose, and tells the workflows of granted rows.
 * A signal that fails is repeated by the expiry of its grant, so nothing here waits for Temporal.
 */
export function createDecider({ sql, client, policy, onOrders, meter = noMeter, log }: DeciderDeps): () => Promise<{ againInMs: number } | undefined> {
  let sweptAtMs = Number.NEGATIVE_INFINITY;
  return async () => {
    const swept = performance.now() - sweptAtMs < sweepEveryMs || (await sweep());
    const startedMs = performance.now();
    const decided: Decided | 'busy' = await decideOnce(sql, policy).catch((error: unknown) => {
      meter.count('scheduling_errors_total');
      throw error;
    });
    if (decided === 'busy') return { againInMs: busyPauseMs };
    if (decided.granted.length > 0 || decided.ordered.length > 0) meter.observe('scheduling_latency_ms', performance.now() - startedMs);
    tell(decided.granted);
    if (decided.ordered.length > 0) onOrders();
    return swept ? undefined : { againInMs: busyPauseMs };
  };

  /** @returns false when somebody else decided meanwhile, so that it has to be made again */
  async function sweep(): Promise<boolean> {
    sweptAtMs = performance.now();
    const lost = await loseHosts(sql);
    if (lost !== 'busy' && lost.length > 0) {
      log.warn({ lost }, 'a lease lapsed: its grants went back to the line');
      for (const { kind, row, taskId } of lost) if (kind === 'running' && row !== undefined && taskId !== undefined) tellLost(taskId, row);
    }
    const again = await expireGrants(sql);
    if (again !== 'busy') tell(again);
    if (lost !== 'busy' && again !== 'busy') return true;
    sweptAtMs = Number.NEGATIVE_INFINITY;
    return false;
  }

  /** Without it the run would wait until Temporal misses the process. A signal that fails costs that wait. */
  function tellLost(taskId: string, row: string): void {
    signalOnce(client, taskWorkflowId(taskId), 'lost', [row], `lost-${row}`).catch((error: unknown) => {
      log.warn({ err: isNotFound(error) ? undefined : error, task_id: taskId, row }, 'a run was not told that its step was lost');
    });
  }

  function tell(granted: readonly GrantedSignal[]): void {
    for (const { workflowId, grant } of granted) {
      signalOnce(client, workflowId, 'grant', [grant], grant.grantId).catch((error: unknown) => {
        // Without a running workflow the grant expires and the reconciler looks after the task.
        log.warn({ err: isNotFound(error) ? undefined : error, workflow_id: workflowId, row: grant.row }, 'a grant did not reach its workflow');
      });
    }
  }
}
