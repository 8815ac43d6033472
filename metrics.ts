import { type Meter, type MetricLabels, type MetricSeries, metrics } from './contract/metrics.js';

/** A meter that adds up in memory until somebody takes it along. */
export interface MetricBuffer extends Meter {
  /** Hands over what was counted since the last call. What `add` fails to take is kept for the next call. */
  flush(add: (deltas: readonly MetricSeries[]) => Promise<void>): Promise<void>;
}

/** Series at most, so that a fault in somebody's labels fills no memory; further ones are dropped until the next take. */
const seriesMax = 5_000;

export function createMetricBuffer(): MetricBuffer {
  let held = new Map<string, { name: string; labels: MetricLabels; value: number }>();
  const add = (name: string, labels: MetricLabels, by: number) => {
    const id = `${name}${JSON.stringify(Object.entries(labels).sort())}`;
    const present = held.get(id);
    if (present !== undefined) present.value += by;
    else if (held.size < seriesMax) held.set(id, { name, labels, value: by });
  };
  return {
    count: (name, labels = {}, by = 1) => add(name, labels, by),
    observe(name, value, labels = {}) {
      const { buckets } = metrics[name];
      for (const bound of buckets) if (value <= bound) add(`${name}_bucket`, { ...labels, le: String(bound) }, 1);
      add(`${name}_sum`, labels, value);
      add(`${name}_count`, labels, 1);
    },
    async flush(addAll) {
      const taken = [...held.values()];
      held = new Map();
      if (taken.length === 0) return;
      try {
        await addAll(taken);
      } catch (error) {
        for (const { name, labels, value } of taken) add(name, labels, value);
        throw error;
      }
    },
  };
}

/** A meter for those who are not watched. */
export const noMeter: Meter = { count() {}, observe() {} };
