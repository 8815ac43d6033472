import { needOfKey, type ResidencyKey } from '../contract/queues.js';
import { quantumMs } from './quantum.js';

/** A key that steps wait for and that the host does not hold, or the first of those. */
export interface Contender {
  readonly key: ResidencyKey;
  /** level of its first step, as asked for */
  readonly level: number;
  /** place of that step among the first steps of all keys, from 0 */
  readonly turn: number;
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
  /** steps run on it, which its unloading has to wait for */
  readonly busy: boolean;
  /** share of the time since its load in which it served: the more, the sooner it is likely to be asked for again */
  readonly use: number;
  /** level of the first step that waits for it, as asked for; null: none waits */
  readonly level: number | null;
  /** place of that step among the first steps of all keys, from 0; behind all of them when none waits */
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
  /** null: a step that waits for it goes before the other, to which it does not give way */
  readonly quantum_ms: number | null;
  /** the share of its quantum that is left, 0 to 1: max(0, 1 - served / quantum) */
  readonly affinity: number;
}

export type Change =
  /** it is to be loaded now, instead of the victims */
  | { readonly kind: 'load'; readonly victims: readonly ResidencyKey[]; readonly terms: readonly AffinityTerms[] }
  /** a victim has service left, or a step that goes first (then without end, Infinity); with `ending` what the load of the victims has bought is used up, and
   * they serve no more than plans that go on with them and steps that go first */
  | {
      readonly kind: 'later';
      readonly victim: ResidencyKey;
      readonly victims: readonly ResidencyKey[];
      readonly leftMs: number;
      readonly ending: boolean;
      readonly terms: readonly AffinityTerms[];
    }
  /** other programs use the memory that it needs */
  | { readonly kind: 'no_room' }
  /** it does not fit, whatever is unloaded */
  | { readonly kind: 'never' };

/** Whether a key fits into a room from which everything else is gone. */
export function fitsEver(bytes: number | null, room: Room): boolean {
  return bytes === null || room.bytesEver === null || bytes <= room.bytesEver;
}

/**
 * What has to go so that a key can be loaded on one host, and whether it may go already. Victims are, in this order, those that nobody needs, those that are
 * needed soonest last, those that are idle, those whose next load is least likely and costs least for their bytes. None goes while a step waits for it that
 * is before the wanted one, nor while it has service left.
 * @param residents those that may be victims: not the ones that are being loaded or drained
 * @see docs/decisions/0007-residency-policy.md
 */
export function chooseChange(wanted: Contender, residents: readonly Resident[], room: Room): Change {
  if (!fitsEver(wanted.bytes, room)) return { kind: 'never' };
  const all = residents.map((resident) => standOf(resident, wanted)).sort(compareVictims);
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
  const keys = victims.map(({ resident }) => resident.key);
  const inTheWay = victims.filter(({ resident, leftMs }) => leftMs > 0 || (resident.planGoesOn && !isOverridden(resident, wanted)));
  const [first, ...others] = inTheWay;
  if (first === undefined) return { kind: 'load', victims: keys, terms };
  const last = others.reduce((longest, other) => (other.leftMs > longest.leftMs ? other : longest), first);
  return { kind: 'later', victim: last.resident.key, victims: keys, leftMs: last.leftMs, ending: victims.every(({ spent }) => spent), terms };
}

/** Urgent work does not wait for plans of other work. */
function isOverridden(resident: Resident, wanted: Contender): boolean {
  return wanted.level >= 9 && (resident.level ?? 0) < 9;
}

function fitsBeside(wanted: Contender, kept: readonly Resident[], room: Room): boolean {
  if (kept.length + 1 > room.modelsMax || kept.some(({ key }) => excludes(key, wanted.key))) return false;
  if (room.bytes === null || kept.length === 0) return room.bytes === null || wanted.bytes === null || wanted.bytes <= room.bytes;
  // What is not known yet is loaded alone, and known afterwards.
  if (wanted.bytes === null) return false;
  return kept.reduce((sum, { bytes }) => sum + (bytes ?? Infinity), wanted.bytes) <= room.bytes;
}

/** Two contexts of one model are never in memory together. */
function excludes(one: ResidencyKey, other: ResidencyKey): boolean {
  if (one.charCodeAt(0) !== other.charCodeAt(0)) return false;
  const name = needOfKey(one)?.name;
  return name !== undefined && other.startsWith(name) && name === needOfKey(other)?.name;
}

/** A resident against the wanted key. */
interface Stand {
  readonly resident: Resident;
  readonly terms: AffinityTerms;
  /** what its load has bought is used up */
  readonly spent: boolean;
  /** until it may go; Infinity: a step that waits for it goes first */
  readonly leftMs: number;
}

function standOf(resident: Resident, wanted: Contender): Stand {
  const goesFirst = resident.level !== null && resident.turn < wanted.turn;
  const quantum = quantumMs(resident.loadMs, resident.level, wanted.level);
  const leftMs = Math.max(0, quantum - resident.servedMs);
  const terms = {
    key: resident.key,
    level: resident.level,
    load_ms: resident.loadMs,
    served_ms: resident.servedMs,
    quantum_ms: goesFirst ? null : quantum,
    affinity: goesFirst ? 1 : quantum === 0 ? 0 : leftMs / quantum,
  };
  return { resident, terms, spent: leftMs === 0, leftMs: goesFirst ? Infinity : leftMs };
}

function compareVictims({ resident: a, leftMs: leftA }: Stand, { resident: b, leftMs: leftB }: Stand): number {
  if ((a.level === null) !== (b.level === null)) return a.level === null ? -1 : 1;
  if (a.level === null) {
    const need = (b.soonMs ?? Infinity) - (a.soonMs ?? Infinity);
    if (need !== 0 && !Number.isNaN(need)) return need;
    if (a.busy !== b.busy) return a.busy ? 1 : -1;
    const worth = nextLoad(a) - nextLoad(b);
    if (worth !== 0) return worth;
  } else {
    if (leftA > 0 !== leftB > 0) return leftA > 0 ? 1 : -1;
    if (a.turn !== b.turn) return b.turn - a.turn;
  }
  return a.loadMs / (a.bytes ?? 1) - b.loadMs / (b.bytes ?? 1) || (a.key < b.key ? -1 : 1);
}

/** What unloading it is likely to cost, for each byte that it frees. */
function nextLoad({ use, loadMs, bytes }: Resident): number {
  return (use * loadMs) / (bytes ?? 1);
}
