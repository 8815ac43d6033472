import type { Head } from '../contract/line.js';
import { exactMax, levelOfExact } from '../contract/priority.js';
import type { DecidedBy, Decision, Snapshot } from './policy.js';

/**
 * A learned agent: it says how urgent waiting steps are, and nothing else. Which model is loaded, who gets which slot and who holds what is decided by
 * `priorityAffinity` over the values that it proposed, so that an agent cannot starve anybody: what has waited long goes by arrival.
 */
export interface PriorityAgent {
  /** stored with the decisions that it took part in; 1 to 50 characters */
  readonly version: string;
  /** Whether it has learned enough to be asked. */
  trained(): boolean;
  /**
   * Exact values, 0 to 100, by `row` of the heads; a step that it leaves out keeps the one it has. The snapshot is a copy of its own. It runs on the engine's own
   * thread and has to answer within milliseconds: its time is measured once it has answered, and one that never does stops its engine, which nothing interrupts.
   * Whoever cannot be sure of that lets a worker thread prepare the values, and hands out the last ones that came.
   */
  propose(snapshot: Snapshot, freedomOf: FreedomOf): ReadonlyMap<string, number>;
}

/** How far an agent may move a step: to any value, where nobody gave a priority, within the level that was given, or not at all, since a person has placed it. */
export type Freedom = 'any' | 'level' | 'none';

/** What an agent may do with the steps of a task. */
export type FreedomOf = (taskId: string) => Freedom;

/** A policy that asks an agent first, as far as `freedomOf` allows, and says who decided. */
export interface AskingPolicy {
  decide(snapshot: Snapshot, freedomOf: FreedomOf): Decision & { readonly by: DecidedBy };
}

export type Proposed = { readonly ok: true; readonly snapshot: Snapshot } | { readonly ok: false; readonly fault: string };

/**
 * The snapshot with the values that an agent proposed. One value that it may not choose makes all of them void: an agent that errs once is not trusted with
 * the rest, and nothing is bent into its range.
 */
export function applyProposal(snapshot: Snapshot, proposed: ReadonlyMap<string, number>, freedomOf: FreedomOf): Proposed {
  const heads = new Map([...snapshot.heads, ...(snapshot.lacking ?? [])].map((head) => [head.row, head]));
  for (const [row, exact] of proposed) {
    const head = heads.get(row);
    const fault = head === undefined ? `it proposed a value for ${shown(row)}, which does not wait` : faultOf(head, exact, freedomOf(head.taskId));
    if (fault !== null) return { ok: false, fault };
  }
  const moved = (head: Head): Head => {
    const exact = proposed.get(head.row);
    return exact === undefined || exact === head.exact ? head : { ...head, exact, level: levelOfExact(exact) };
  };
  return {
    ok: true,
    snapshot: { ...snapshot, heads: snapshot.heads.map(moved), ...(snapshot.lacking === undefined ? {} : { lacking: snapshot.lacking.map(moved) }) },
  };
}

function faultOf({ row, level, exact: present }: Head, exact: number, freedom: Freedom): string | null {
  if (!Number.isInteger(exact) || exact < 0 || exact > exactMax) return `it proposed ${shown(exact)} for step ${row}, which is no priority`;
  if (exact === present || freedom === 'any') return null;
  if (freedom === 'none') return `it proposed ${exact} for step ${row}, which a person has placed`;
  return levelOfExact(exact) === level ? null : `it proposed ${exact} for step ${row}, whose caller asked for level ${level}`;
}

/** What an agent says may be anything. */
function shown(value: unknown): string {
  return String(value).slice(0, 40);
}
