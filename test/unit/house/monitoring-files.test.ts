import { readFile } from 'node:fs/promises';
import { expect, test } from 'vitest';
import { parse } from 'yaml';
import { type MetricFacts, metrics } from '../../../contract/metrics.js';

interface Dashboard {
  readonly panels: readonly { readonly id: number; readonly title: string; readonly targets: readonly { readonly expr: string }[] }[];
}
interface Rules {
  readonly groups: readonly {
    readonly rules: readonly { readonly alert: string; readonly expr: string; readonly annotations: { readonly summary: string } }[];
  }[];
}

/** Words of PromQL that are no metric. */
const language = new Set(['sum', 'rate', 'increase', 'by', 'histogram_quantile', 'and', 'or', 'le', 'up', 'job']);

/** Every series that an installation may tell. */
const told = new Set(
  Object.entries<MetricFacts>(metrics).flatMap(([name, { type }]) =>
    type === 'histogram' ? ['_bucket', '_sum', '_count'].map((ending) => name + ending) : [name],
  ),
);

/** Names in an expression that are neither the language's, nor labels, nor series that there are. */
function unknownNames(expression: string): string[] {
  const bare = expression
    .replaceAll(/"[^"]*"/g, '')
    .replaceAll(/\[[^\]]*\]/g, '')
    .replaceAll(/by \([^)]*\)/g, '');
  return (bare.match(/[a-z_][a-z0-9_]*/g) ?? []).filter((name) => !language.has(name) && !told.has(name));
}

test('the dashboard for Grafana uses series that there are, each panel once [OBS-13]', async () => {
  const { panels } = JSON.parse(await readFile('grafana/dashboard.json', 'utf8')) as Dashboard;
  expect(panels.length).toBeGreaterThan(10);
  expect(new Set(panels.map(({ id }) => id)).size).toBe(panels.length);
  expect(panels.flatMap(({ targets }) => targets.flatMap(({ expr }) => unknownNames(expr)))).toEqual([]);
});

test('the rules for Prometheus use series that there are, and say what is wrong [OBS-13]', async () => {
  const { groups } = parse(await readFile('prometheus/rules.yml', 'utf8')) as Rules;
  const rules = groups.flatMap((group) => group.rules);
  expect(rules.length).toBeGreaterThan(3);
  expect(rules.flatMap(({ expr }) => unknownNames(expr))).toEqual([]);
  expect(rules.filter(({ annotations }) => !annotations.summary.endsWith('.'))).toEqual([]);
  const { scrape_configs: scraped, rule_files: files } = parse(await readFile('prometheus/prometheus.yml', 'utf8')) as {
    scrape_configs: { job_name: string }[];
    rule_files: string[];
  };
  expect([scraped.map(({ job_name: job }) => job), files]).toEqual([['ai-task-orchestra'], ['rules.yml']]);
});

test('the check finds a series that there is not', () => {
  expect(unknownNames('sum by (le) (rate(scheduling_latency_ms_bucket[5m])) / tasks_total')).toEqual(['tasks_total']);
});
