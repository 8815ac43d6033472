import type { JsonObject } from './json.js';

/** What a running step tells beside its end. Text of a model or a program, and how far it is. */
export type StepEvent =
  | {
      readonly kind: 'output';
      readonly data: { readonly step: string; readonly attempt: number; readonly stream: OutputStream; readonly text: string; readonly truncated?: true };
    }
  | {
      readonly kind: 'progress';
      readonly data: { readonly step: string; readonly attempt: number; readonly phase: string; readonly done?: number; readonly total?: number };
    };

/** Where a piece of output comes from: a model's answer, or one of the two streams of a program. */
export const outputStreams = ['text', 'stdout', 'stderr'] as const;
export type OutputStream = (typeof outputStreams)[number];

/** Kinds after which nothing more comes of an attempt. */
export const finalEventKinds: readonly string[] = ['completed', 'failed', 'cancelled'];

/** A place in the order of all events; the public form is `<txid>.<id>`. */
export interface EventPlace {
  /** number of the transaction that wrote it */
  readonly txid: bigint;
  readonly id: bigint;
}

/** Something that happened to a task. */
export interface TaskEvent {
  readonly place: EventPlace;
  readonly taskId: string;
  readonly userId: string;
  readonly at: Date;
  readonly kind: string;
  readonly data: JsonObject;
}

export function eventIdOf({ txid, id }: EventPlace): string {
  return `${txid}.${id}`;
}

const bigintMax = 2n ** 63n - 1n;

/** Reads the public id of an event; undefined for any other text. */
export function parseEventId(text: string): EventPlace | undefined {
  const [, txid, id] = /^(\d{1,19})\.(\d{1,19})$/.exec(text) ?? [];
  if (txid === undefined || id === undefined) return undefined;
  const place = { txid: BigInt(txid), id: BigInt(id) };
  return place.txid > bigintMax || place.id > bigintMax ? undefined : place;
}

/** Whether `a` comes after `b`. */
export function isAfter(a: EventPlace, b: EventPlace): boolean {
  return a.txid > b.txid || (a.txid === b.txid && a.id > b.id);
}
