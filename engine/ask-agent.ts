import type { Logger } from 'pino';
import { applyProposal, type AskingPolicy, type FreedomOf, type PriorityAgent } from '../scheduling/learned-order.js';
import type { Policy, Snapshot } from '../scheduling/policy.js';

/**
 * An agent that takes longer than this holds up the line, since nobody else decides meanwhile. It is measured, not enforced: an agent runs on the thread of its
 * engine, and nothing interrupts one that never answers.
 */
export const answerMaxMs = 20;
/** How long an agent that failed is not asked, so that one that is slow or broken costs next to nothing. */
export const restMs = 60_000;

const untrained = 'it is not trained yet';

export interface AskAgentDeps {
  readonly agent: PriorityAgent;
  /** decides over the values that the agent proposes, or over those that are there */
  readonly policy: Policy;
  readonly log: Logger;
  /** milliseconds that only ever grow; default the clock of the process */
  readonly nowMs?: () => number;
}

/**
 * Lets an agent order the line. While it is untrained, and for a minute after it threw, took too long or proposed what it may not, the policy decides alone;
 * each decision says which of them it was.
 */
export function askAgent({ agent, policy, log, nowMs = () => performance.now() }: AskAgentDeps): AskingPolicy {
  let failed: { readonly fault: string; readonly untilMs: number } | null = null;

  function ask(snapshot: Snapshot, freedomOf: FreedomOf): { readonly snapshot: Snapshot } | { readonly fault: string } {
    const startedMs = nowMs();
    if (failed !== null && startedMs < failed.untilMs) return failed;
    const told = tryAsking(snapshot, freedomOf);
    const tookMs = nowMs() - startedMs;
    const fault = 'fault' in told ? told.fault : tookMs > answerMaxMs ? `it took ${Math.round(tookMs)} ms` : null;
    if (fault === null) {
      failed = null;
      return told;
    }
    if (fault === untrained) return { fault };
    failed = { fault, untilMs: nowMs() + restMs };
    log.warn({ agent: agent.version, fault }, 'the learned agent failed: priority_affinity orders the line, and it is asked again in a minute');
    return failed;
  }

  function tryAsking(snapshot: Snapshot, freedomOf: FreedomOf): { readonly snapshot: Snapshot } | { readonly fault: string } {
    try {
      if (!agent.trained()) return { fault: untrained };
      const values: unknown = agent.propose(structuredClone(snapshot), freedomOf);
      if (!(values instanceof Map)) return { fault: 'it proposed no values' };
      const proposed = applyProposal(snapshot, values, freedomOf);
      return proposed.ok ? proposed : { fault: proposed.fault };
    } catch (error) {
      return { fault: `it threw: ${error instanceof Error ? error.message : String(error)}`.slice(0, 200) };
    }
  }

  return {
    decide(snapshot, freedomOf) {
      const asked = ask(snapshot, freedomOf);
      if (!('fault' in asked)) return { ...policy(asked.snapshot), by: { algorithm: 'reinforcement_learning', version: agent.version, instead: null } };
      const instead = `the learned agent ${agent.version} was not used: ${asked.fault}`;
      return { ...policy(snapshot), by: { algorithm: 'priority_affinity', version: null, instead } };
    },
  };
}
