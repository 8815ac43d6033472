import type { ResidencyKey } from '../contract/queues.js';
import { quantumMs } from './quantum.js';

/** A key that steps wait for and that the host does not hold, or the first of those. */
export interface Contender {
  readonly key: ResidencyKey;
  /** effective level of its first step */
  readonly level: number;
  /** bytes of memory it will take; null: not known */
  readonly bytes: number | null;
}

/** A key that the host holds, or is about to. */
export interface Resident {
  readonly key: ResidencyKey;
  /** what loading it costs, in milliseconds */
  readonly loadMs: number;
  readonly bytes: number | null;
  /** service since its load, in milliseconds */
  readonly servedMs: number;
  /** effective level of the first step that waits for it; null: none waits */
  readonly level: number | null;
  /** place of that step among all first steps, from 0; of no meaning when none waits */
  readonly turn: number;
  /** milliseconds until a step that has not entered the line yet is expected to need it; null: none is in sight */
  readonly soonMs: number | null;
  /** a plan that ran on it goes on with it, at once; consecutive steps of a plan share one residency [TPL-25] */
  readonly planGoesOn: boolean;
}

/** What a host may hold at the same time. */
export interface Room {
  readonly modelsMax: number;
  /** bytes for our models: the budget less what other programs use; null: not limited by bytes */
  readonly bytes: number | null;
  /** the same with every other program gone: what does not fit in here never will */
  readonly bytesEver: number | null;
}

/** Why a key keeps its slot or loses it: the score terms of a decision. */
export interface AffinityTerms {
  readonly key: ResidencyKey;
  readonly level: number | null;
  readonly load_ms: number;
  readonly served_ms: number;
  /** null: never gives way to the other */
  readonly quantum_ms: number | null;
  /** the share of its quantum that is left, 0 to 1: max(0, 1 - served / quantum) */
  readonly affinity: number;
}

export type Change =
  /** it is to be loaded now, instead of the victims */
  | { readonly kind: 'load'; readonly victims: readonly ResidencyKey[]; readonly terms: readonly AffinityTerms[] }
  /** a victim has service left; with 0 ms left it serves no more than plans that go on with it */
  | { readonly kind: 'later'; readonly victim: ResidencyKey; readonly leftMs: number; readonly terms: readonly AffinityTerms[] }
  /** other programs use the memory that it needs */
  | { readonly kind: 'no_room' }
  /** it does not fit, whatever is unloaded */
  | { readonly kind: 'never' };

/**
 * What has to go so that a key can be loaded on one host, and whether it may go already. Victims are, in this order, those that nobody needs, those that are
 * needed soonest last, those whose load costs least for their bytes; none that has service left goes before it was used up.
 * @param residents those that may be victims: not the ones that are being loaded or drained
 * @see docs/decisions/0007-residency-policy.md
 */
export function chooseChange(wanted: Contender, residents: readonly Resident[], room: Room): Change {
  if (wanted.bytes !== null && room.bytesEver !== null && wanted.bytes > room.bytesEver) return { kind: 'never' };
  const all = residents
    .map((resident) => ({ resident, terms: termsOf(resident, wanted.level) }))
    .sort((a, b) => compareVictims(a.resident, a.terms, b.resident, b.terms));
  const victims: typeof all = [];
  const fits = (): boolean =>
    fitsBeside(
      wanted,
      residents.filter((resident) => !victims.some((victim) => victim.resident === resident)),
      room,
    );
  for (const candidate of all) {
    if (fits()) break;
    victims.push(candidate);
  }
  if (!fits()) return { kind: 'no_room' };
  // A small one at the front may be in vain once a larger one has to go anyway.
  for (const victim of [...victims]) {
    const rest = victims.filter((other) => other !== victim);
    if (
      fitsBeside(
        wanted,
        residents.filter((resident) => !rest.some((other) => other.resident === resident)),
        room,
      )
    )
      victims.splice(victims.indexOf(victim), 1);
  }
  const terms = victims.map((victim) => victim.terms);
  const inTheWay = victims.filter(({ resident, terms: { affinity } }) => affinity > 0 || (resident.planGoesOn && !isOverridden(resident, wanted)));
  const last = inTheWay.sort((a, b) => leftMs(b.terms) - leftMs(a.terms))[0];
  return last === undefined
    ? { kind: 'load', victims: victims.map(({ resident }) => resident.key), terms }
    : { kind: 'later', victim: last.resident.key, leftMs: leftMs(last.terms), terms };
}

/** Urgent work does not wait for plans of other work. */
function isOverridden(resident: Resident, wanted: Contender): boolean {
  return wanted.level >= 9 && (resident.level ?? 0) < 9;
}

function fitsBeside(wanted: Contender, kept: readonly Resident[], room: Room): boolean {
  if (kept.length + 1 > room.modelsMax) return false;
  if (room.bytes === null || kept.length === 0) return room.bytes === null || wanted.bytes === null || wanted.bytes <= room.bytes;
  // What is not known yet is loaded alone, and known afterwards.
  if (wanted.bytes === null) return false;
  return kept.reduce((sum, { bytes }) => sum + (bytes ?? Infinity), wanted.bytes) <= room.bytes;
}

function termsOf(resident: Resident, otherLevel: number): AffinityTerms {
  const quantum = quantumMs(resident.loadMs, resident.level, otherLevel);
  const affinity = quantum === 0 ? 0 : quantum === Infinity ? 1 : Math.max(0, 1 - resident.servedMs / quantum);
  return {
    key: resident.key,
    level: resident.level,
    load_ms: resident.loadMs,
    served_ms: resident.servedMs,
    quantum_ms: Number.isFinite(quantum) ? quantum : null,
    affinity,
  };
}

function leftMs({ quantum_ms: quantum, served_ms: served }: AffinityTerms): number {
  return quantum === null ? Infinity : Math.max(0, quantum - served);
}

function compareVictims(a: Resident, ta: AffinityTerms, b: Resident, tb: AffinityTerms): number {
  if ((a.level === null) !== (b.level === null)) return a.level === null ? -1 : 1;
  if (a.level === null) {
    const need = (b.soonMs ?? Infinity) - (a.soonMs ?? Infinity);
    if (need !== 0 && !Number.isNaN(need)) return need;
  } else {
    if (ta.affinity > 0 !== tb.affinity > 0) return ta.affinity > 0 ? 1 : -1;
    if (a.turn !== b.turn) return b.turn - a.turn;
  }
  return a.loadMs / (a.bytes ?? 1) - b.loadMs / (b.bytes ?? 1) || (a.key < b.key ? -1 : 1);
}
