import type { AlertListView, PerformanceReportView, ResourceUsageHistoryView } from '../contract/schemas/observations.js';
import { type AlertRow, listAlerts } from '../db/alerts.js';
import { averageMetric, readAvailability, readMetricMeans, readTaskTimes, recordMetric } from '../db/performance.js';
import { type MachinePoint, readMachinePoints, readMachinesNow, readMetricPoints } from '../db/usage.js';
import type { ServiceDeps } from './deps.js';

/** Points of a line at most, so that it costs the same whatever time it shows. */
const pointsMax = 120;
const stepSecondsMin = 10;
/** A collection comes once a minute, so shorter stretches of it have no value. */
const flowStepSecondsMin = 60;
const flowNames = ['tasks_per_minute', 'tokens_per_second', 'loading_share'] as const;

export interface ObservationUseCases {
  /** How machines were used, and what they did. @param minutes how far to look back, at most 2,880 */
  resourceUsage(minutes: number): Promise<ResourceUsageHistoryView>;
  alerts(): Promise<AlertListView>;
  /** @param hours how far to look back */
  performanceReport(hours: number): Promise<PerformanceReportView>;
  recordMetric(name: string, value: number): Promise<void>;
  /** Mean of the last `hours`; 0 when there is no value. */
  averageMetric(name: string, hours: number): Promise<number>;
}

export function observationUseCases({ sql }: ServiceDeps): ObservationUseCases {
  return {
    async resourceUsage(minutes) {
      const now = new Date();
      const from = new Date(now.getTime() - minutes * 60_000);
      const stepSeconds = Math.max(stepSecondsMin, Math.ceil((minutes * 60) / pointsMax / stepSecondsMin) * stepSecondsMin);
      const [latest, points, flow] = await Promise.all([
        readMachinesNow(sql, from),
        readMachinePoints(sql, from, stepSeconds),
        readMetricPoints(sql, flowNames, from, Math.max(stepSeconds, flowStepSecondsMin)),
      ]);
      const times = [...new Set(flow.map(({ at }) => at.getTime()))].sort((a, b) => a - b);
      const values = new Map(flow.map(({ name, at, value }) => [`${name} ${at.getTime()}`, value]));
      return {
        from: from.toISOString(),
        until: now.toISOString(),
        step_seconds: stepSeconds,
        machines: latest.map((machine) => ({
          machine: machine.machine,
          seen_at: machine.at.toISOString(),
          memory_bytes: machine.memoryBytes,
          gpus: machine.gpus.map(({ usedBytes, totalBytes, ...gpu }) => ({ ...gpu, used_bytes: usedBytes, total_bytes: totalBytes })),
          gpu_note: machine.gpuNote,
          points: points.filter((point) => point.machine === machine.machine).map(pointView),
        })),
        flow: times.map((at) => ({
          at: new Date(at).toISOString(),
          tasks_per_minute: values.get(`tasks_per_minute ${at}`) ?? null,
          tokens_per_second: values.get(`tokens_per_second ${at}`) ?? null,
          loading_share: values.get(`loading_share ${at}`) ?? null,
        })),
      };
    },

    async alerts() {
      return { items: (await listAlerts(sql)).map(alertView) };
    },

    async performanceReport(hours) {
      const until = new Date();
      const from = new Date(until.getTime() - hours * 3_600_000);
      const [times, means, months] = await Promise.all([readTaskTimes(sql, from), readMetricMeans(sql, from), readAvailability(sql)]);
      const of = (resource: boolean) => means.filter(({ name }) => (name === 'resource_utilization') === resource);
      return {
        from: from.toISOString(),
        until: until.toISOString(),
        avg_task_execution_time: times.executionSeconds ?? 0,
        avg_workflow_completion_time: times.completionSeconds ?? 0,
        tasks_completed: times.completed,
        resource_utilization: Object.fromEntries(of(true).map(({ subject, mean }) => [subject, mean])),
        averages: Object.fromEntries(of(false).map(({ name, subject, mean }) => [subject === '' ? name : `${name} of ${subject}`, mean])),
        availability: months
          .filter(({ minutes }) => minutes > 0)
          .map(({ part, month, minutes, ok }) => ({ part, month, minutes, minutes_ok: Math.min(ok, minutes), share: Math.min(1, ok / minutes) })),
      };
    },

    recordMetric: (name, value) => recordMetric(sql, name, value),
    averageMetric: (name, hours) => averageMetric(sql, name, new Date(Date.now() - hours * 3_600_000)),
  };
}

/** An alert as callers see it. */
export function alertView({ firedAt, clearedAt, ...alert }: AlertRow): AlertListView['items'][number] {
  return { ...alert, fired_at: firedAt.toISOString(), cleared_at: clearedAt?.toISOString() ?? null };
}

function pointView({ at, cpu, memory, modelsBytes, gpu, gpuMemory }: MachinePoint) {
  return { at: at.toISOString(), cpu, memory, models_bytes: modelsBytes, gpu, gpu_memory: gpuMemory };
}
