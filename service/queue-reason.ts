import type { ForecastReason } from '../contract/forecast.js';
import type { StatusDetail } from '../contract/status.js';

/** What a step waits for. */
export interface Reason {
  /** from 1 */
  readonly position: number;
  readonly why: ForecastReason | StatusDetail | 'entering';
  /** what it needs; null for a step without a model */
  readonly model: string | null;
  /** where it is predicted to run; null: not known, or no model server */
  readonly host: string | null;
  /** the model that is served meanwhile, or that is in the way */
  readonly other: string | null;
  /** service that the other one has left */
  readonly leftMs: number | null;
  /** what is paused, and why */
  readonly pause: { readonly what: string; readonly reason: string | null } | null;
}

/** Why a step waits, as a sentence for people, such as `3rd: waits for qwen3:14b, which is loaded when llama3.1:8b has served 11 s more`. */
export function reasonOf(reason: Reason): string {
  return `${ordinal(reason.position)}: ${sentence(reason)}`;
}

function sentence({ why, model, host, other, leftMs, pause }: Reason): string {
  const needed = model ?? 'a slot';
  const where = host === null ? '' : ` on ${host}`;
  switch (why) {
    case 'waiting_slot':
      return model === null ? 'waits for a free slot' : `waits for a free slot of ${model}${where}`;
    case 'waiting_model':
      return `waits for ${needed}, which will be loaded${where}`;
    case 'behind':
      return other === null ? `waits for ${needed}, behind work that goes first` : `waits for ${needed}, behind work for ${other} that goes first`;
    case 'quantum':
      return `waits for ${needed}, which is loaded when ${other ?? 'another model'} has ${leftMs === null ? 'had its turn' : `served ${seconds(leftMs)} more`}`;
    case 'changing':
      return other === null || other === model
        ? `waits for ${needed}, which is being loaded${where}`
        : `waits for ${needed} until the change to ${other}${where} is done`;
    case 'no_room':
      return `waits for ${needed}, for which there is no memory${other === null ? '' : ` beside ${other}`}${where}`;
    case 'backing_off':
      return `waits for ${needed}, whose last load failed${where}; it is tried again soon`;
    case 'fetching':
      return `waits for ${needed}, which is being fetched${where === '' ? '' : ` to ${host}`}`;
    case 'no_host':
      return model === null ? 'waits, since no engine is running' : `waits for ${model}, since no host that has it is ready`;
    case 'paused':
      return pause === null ? 'is paused' : `waits, since ${pause.what} is paused${pause.reason === null ? '' : `: ${pause.reason}`}`;
    case 'held':
      return 'is held until it is released';
    case 'waiting_dependency':
      return 'waits for other tasks';
    case 'blocked':
      return 'is blocked, since a task that it waits for did not complete';
    case 'waiting_lock':
      return 'waits for a lock that another task has';
    case 'waiting_resource':
      return 'waits for resources that other tasks hold';
    case 'reserved':
      return 'waits, since what it needs is kept for a task before it that lacks some of it';
    case 'waiting_retry':
      return 'waits before its next attempt';
    case 'cancelling':
      return 'is being cancelled';
    case 'entering':
      return 'is about to enter the line';
  }
}

/** 1st, 2nd, 3rd, 4th, 11th, 21st. */
export function ordinal(n: number): string {
  const ending = n % 100 >= 11 && n % 100 <= 13 ? 'th' : (['th', 'st', 'nd', 'rd'][n % 10] ?? 'th');
  return `${n}${ending}`;
}

function seconds(ms: number): string {
  const whole = Math.max(1, Math.ceil(ms / 1_000));
  return whole < 120 ? `${whole} s` : `${Math.ceil(whole / 60)} min`;
}
