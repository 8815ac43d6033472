import type { JsonObject, JsonValue } from '../contract/json.js';
import type { Usage } from '../contract/line.js';

/** Adds what a step used to what it used before: times and metrics that are numbers add up, peaks keep the larger, the rest keeps the later value. */
export function addUsage(before: Usage, more: Usage): Usage {
  const metrics = addMetrics(before.metrics ?? {}, more.metrics ?? {});
  return {
    ...before,
    ...more,
    ...sum('inferenceTimeSeconds', before, more),
    ...sum('cpuSeconds', before, more),
    ...(before.memoryUsedGb === undefined && more.memoryUsedGb === undefined
      ? {}
      : { memoryUsedGb: Math.max(before.memoryUsedGb ?? 0, more.memoryUsedGb ?? 0) }),
    ...(Object.keys(metrics).length === 0 ? {} : { metrics }),
  };
}

function sum(name: 'inferenceTimeSeconds' | 'cpuSeconds', before: Usage, more: Usage): Partial<Usage> {
  if (before[name] === undefined && more[name] === undefined) return {};
  return { [name]: (before[name] ?? 0) + (more[name] ?? 0) };
}

function addMetrics(before: JsonObject, more: JsonObject): JsonObject {
  const all = new Map<string, JsonValue>(Object.entries(before));
  for (const [name, value] of Object.entries(more)) {
    const old = all.get(name);
    all.set(name, typeof value === 'number' && typeof old === 'number' ? old + value : value);
  }
  return Object.fromEntries(all);
}
