import { type ForecastEntry, type ForecastReason, forecastReasons } from '../contract/forecast.js';

/** An entry with its texts, of which there are few, as places in a list; a step's end is left out where it is the end of its task. */
type Row = [
  task: string,
  step: number,
  key: number,
  host: number,
  why: number,
  other: number,
  position: number | null,
  left: number | null,
  ...timesMs: (number | null)[],
];

/** Entries as one text of JSON, a third as long as they are. */
export function textOfEntries(entries: readonly ForecastEntry[]): string {
  const names: string[] = [];
  const places = new Map<string, number>();
  const placeOf = (name: string | null): number => {
    if (name === null) return -1;
    const known = places.get(name) ?? names.push(name) - 1;
    places.set(name, known);
    return known;
  };
  const rows = entries.map((entry): Row => {
    const ends = [entry.done_ms, entry.done_low_ms, entry.done_high_ms];
    const own = [entry.finish_ms, entry.finish_low_ms, entry.finish_high_ms];
    return [
      entry.task_id,
      placeOf(entry.step),
      placeOf(entry.key),
      placeOf(entry.host),
      entry.why === null ? -1 : forecastReasons.indexOf(entry.why),
      placeOf(entry.other),
      entry.position,
      entry.left_ms,
      entry.start_ms,
      entry.start_low_ms,
      entry.start_high_ms,
      ...ends,
      ...(own.every((ms, index) => ms === ends[index]) ? [] : own),
    ];
  });
  return JSON.stringify([names, rows]);
}

export function entriesOfText(text: string): ForecastEntry[] {
  const [names, rows] = JSON.parse(text) as [string[], Row[]];
  const nameOf = (place: number): string | null => names[place] ?? null;
  return rows.map(([taskId, step, key, host, why, other, position, leftMs, start, startLow, startHigh, done, doneLow, doneHigh, ...own]): ForecastEntry => {
    const [finish, finishLow, finishHigh] = own.length > 0 ? own : [done, doneLow, doneHigh];
    return {
      task_id: taskId,
      step: nameOf(step) ?? '',
      pool: key < 0 ? 'general' : 'model',
      key: nameOf(key),
      host: nameOf(host),
      position,
      start_ms: start ?? null,
      start_low_ms: startLow ?? null,
      start_high_ms: startHigh ?? null,
      finish_ms: finish ?? null,
      finish_low_ms: finishLow ?? null,
      finish_high_ms: finishHigh ?? null,
      done_ms: done ?? null,
      done_low_ms: doneLow ?? null,
      done_high_ms: doneHigh ?? null,
      why: (forecastReasons[why] as ForecastReason | undefined) ?? null,
      other: nameOf(other),
      left_ms: leftMs,
    };
  });
}
