import { expect, test } from 'vitest';
import { PerformanceReport } from '../../../contract/schemas/observations.js';
import { ErrorGroups, Trends } from '../../../contract/schemas/reports.js';
import { runCommand } from './run-command.js';

const id = '8f14e45f-ceea-467f-a0e6-7c1f9d2b3a44';
const hostile = '\u001b]52;c;cm0=\u0007';
const shownHostile = '\\x1b]52;c;cm0=\\x07';
const hoursAgo = (hours: number) => new Date(Date.now() - hours * 3_600_000).toISOString();
const person = { terminal: true, env: { NO_COLOR: '1' } };
const range = { from: '2026-01-08T10:30:00.000Z', until: '2026-01-09T10:30:00.000Z' };

const none = { median: null, p90: null };
const counts = { completed: 40, failed: 2, cancelled: 1, ran: { median: 12.345, p90: 70 }, waited: { median: 0.25, p90: 3_725 } };
const trends = Trends.parse({
  ...range,
  bucket_seconds: 3_600,
  complete: true,
  templates: [
    {
      template: `ask${hostile}`,
      ...counts,
      buckets: [
        { at: '2026-01-09T09:00:00.000Z', ...counts },
        { at: '2026-01-09T10:00:00.000Z', ...counts, completed: 3 },
      ],
    },
    { template: 'never', completed: 0, failed: 0, cancelled: 1, ran: none, waited: none, buckets: [] },
  ],
  steps: [{ template: 'ask', step: 'write', step_type: 'ollama_chat', runs: 44, failed: 2, ran: { median: 11, p90: 65.5 } }],
});

test('trends are told by template, by time or by step, with exact seconds for scripts [MGR-10, DASH-09]', async () => {
  const answer = () => trends;
  const whole = await runCommand(['trends'], { answer });
  expect(whole).toMatchObject({ code: 0, err: '', sent: [{ method: 'GET', path: '/reports/trends' }] });
  expect(whole.out.split('\n')).toEqual([`ask${shownHostile}\t40\t2\t1\t12.345\t70\t0.25\t3725`, 'never\t0\t0\t1\t\t\t\t', '']);
  const byTime = await runCommand(['trends', '--by', 'time'], { answer });
  expect(byTime.out.split('\n').map((line) => line.split('\t').slice(0, 3))).toEqual([
    ['2026-01-09T09:00:00.000Z', `ask${shownHostile}`, '40'],
    ['2026-01-09T10:00:00.000Z', `ask${shownHostile}`, '3'],
    [''],
  ]);
  const bySteps = await runCommand(['trends', '--by', 'step'], { answer });
  expect(bySteps.out).toBe('ask\twrite\tollama_chat\t44\t2\t11\t65.5\n');
});

test('a person sees trends as a table, with durations in units [MGR-10, DASH-09]', async () => {
  const { out } = await runCommand(['trends'], { answer: () => trends, ...person });
  expect(out).toMatch(
    /^TEMPLATE +COMPLETED +FAILED +CANCELLED +RAN +RAN 90 % +WAITED +WAITED 90 %\n.* 40 +2 +1 +12 s +1 min 10 s +250 ms +1 h 2 min\nnever +0 +0 +1\n$/,
  );
  const byTime = await runCommand(['trends', '--by', 'time'], { answer: () => trends, ...person });
  expect(byTime.out).toMatch(/^FROM .*\n2026-01-09 09:00:00Z \(\d+ d ago\) /);
});

test.each(['trends', 'errors'])(
  '%s are asked of templates and of a range in any of its spellings; --json is the answer of the API [MGR-10, DASH-09]',
  async (name) => {
    for (const [since, asked] of [
      ['24h', '24h'],
      ['1d', '24h'],
      ['1w', '7d'],
      ['30d', '30d'],
    ] as const) {
      const { out, sent } = await runCommand(['--json', name, '-t', 'a', '-t', 'b', '--since', since], { answer: () => trends });
      expect([sent[0]?.query.get('range'), sent[0]?.query.getAll('template')]).toEqual([asked, ['a', 'b']]);
      expect(JSON.parse(out)).toEqual(trends);
    }
  },
);

test.each([
  [['trends', '--since', '2h'], '--since 2h: give 24h, 7d or 30d.'],
  [['errors', '--since', 'yesterday'], '--since yesterday: give 24h, 7d or 30d.'],
  [['trends', '--by', 'constructor'], '--by constructor: give template, time or step.'],
  [['performance', '--since', 'yesterday'], '--since yesterday is no time: give one such as 2026-01-09, or 15min, 2h, 7d.'],
  [['performance', '--since', '400d'], '--since 400d: give a time of the last 365 days'],
  [['performance', '--since', '2999-01-01'], '--since 2999-01-01: give a time of the last 365 days'],
])('%j is refused before anything is asked, with what to give [MGR-10]', async (args, said) => {
  expect(await runCommand(args)).toMatchObject({ code: 2, out: '', sent: [], err: expect.stringContaining(said) });
});

test('where nothing ended or failed it is said, and so is what is left out [MGR-10, DASH-09]', async () => {
  const nothing = await runCommand(['trends'], { answer: () => ({ ...trends, templates: [], steps: [] }) });
  expect(nothing).toMatchObject({ code: 0, out: '', err: expect.stringContaining('No task has ended since 2026-01-08 10:30:00Z') });
  const noFailures = await runCommand(['errors'], { answer: () => ({ ...groups, failed: 0, items: [] }) });
  expect(noFailures).toMatchObject({ code: 0, out: '', err: expect.stringContaining('No task has failed since 2026-01-08 10:30:00Z') });
  expect((await runCommand(['trends'], { answer: () => ({ ...trends, complete: false }) })).err).toContain('only the latest 100,000');
  const cut = await runCommand(['errors'], { answer: () => ({ ...groups, complete: false, failed: 10_000 }) });
  expect(cut.err).toBe(
    'The 2 largest groups, with 4 of 10000 failed tasks.\nSo many tasks failed that only the latest 10,000 are grouped; a shorter --since groups all of its own.\n',
  );
});

const seen = { first_seen: hoursAgo(5), last_seen: hoursAgo(2.5) };
const groups = ErrorGroups.parse({
  ...range,
  complete: true,
  failed: 4,
  items: [
    {
      ...{ key: '-3Jd0s9aQ2xVb1cd', template: 'ask', step: 'write', code: 'no_file', pattern: `no file <path>${hostile}`, message: 'no file /a', count: 3 },
      ...seen,
      task_ids: [id],
    },
    { key: 'k2', template: 'ask', step: null, code: '', pattern: 'stopped', message: 'stopped', count: 1, ...seen, task_ids: [id] },
  ],
});

test('errors are told by group, the largest first, with the key that names its tasks [MGR-10, DASH-09]', async () => {
  const { out, err, code, sent } = await runCommand(['errors'], { answer: () => groups });
  expect({ code, err, path: sent[0]?.path }).toEqual({ code: 0, err: '', path: '/reports/errors' });
  expect(out.split('\n')).toEqual([
    `3\t${seen.last_seen}\task\twrite\tno_file: no file <path>${shownHostile}\t-3Jd0s9aQ2xVb1cd`,
    `1\t${seen.last_seen}\task\t\tstopped\tk2`,
    '',
  ]);
  const table = await runCommand(['errors'], { answer: () => groups, ...person });
  expect(table.out).toMatch(/^TASKS +LAST +TEMPLATE +STEP +ERROR +KEY\n3 +2 h ago +ask +write +no_file: /);
});

test('the tasks of one group of errors are printed by id, to be retried together [MGR-10, DASH-09]', async () => {
  const one = { ...groups, items: groups.items.slice(0, 1) };
  const args = ['errors', '--group', '-3Jd0s9aQ2xVb1cd', '--since', '7d'];
  const { out, err, code, sent } = await runCommand(args, { answer: () => one });
  expect(Object.fromEntries(sent[0]?.query ?? [])).toEqual({ range: '7d', group: '-3Jd0s9aQ2xVb1cd', ids: '1000' });
  expect([code, out, err]).toEqual([0, `${id}\n`, `They failed with no_file: no file <path>${shownHostile}; these are the latest 1 of 3\n`]);
  expect(JSON.parse((await runCommand(['--json', ...args], { answer: () => one })).out)).toEqual(one);
  const gone = await runCommand(args, { answer: () => ({ ...groups, items: [] }) });
  expect(gone).toMatchObject({ code: 3, out: '', err: expect.stringContaining('There is no group -3Jd0s9aQ2xVb1cd since 2026-01-08 10:30:00Z') });
});

const performance = PerformanceReport.parse({
  ...range,
  avg_task_execution_time: 12.3,
  avg_workflow_completion_time: 70,
  tasks_completed: 412,
  resource_utilization: { general_slots: 0.256 },
  averages: { error_rate: 0.0123, 'latency_ms of scheduling': 14.6, queue_size: 3.14159, task_duration_seconds: 65 },
  availability: [{ part: 'api', month: '2026-01', minutes: 43_200, minutes_ok: 43_199, share: 43_199 / 43_200 }],
});

test('performance is told with units for people, and as the API names and counts it for scripts [MGR-10, OBS-12, OBS-15]', async () => {
  const answer = () => performance;
  const table = await runCommand(['performance'], { answer, ...person });
  expect(table.out.split('\n').map((line) => line.split(/ {2,}/))).toEqual([
    ['MEASURE', 'VALUE'],
    ['tasks completed', '412'],
    ['task from start to end', '12 s'],
    ['task from creation to end', '1 min 10 s'],
    ['use of general slots', '25.6 %'],
    ['error rate', '1.2 %'],
    ['latency of scheduling', '15 ms'],
    ['queue size', '3.14'],
    ['task duration', '1 min 5 s'],
    ['availability of api in 2026-01', '99.99 %, 1 of 43200 min away'],
    [''],
  ]);
  expect(table.err).toContain('Means since 2026-01-08 10:30:00Z');
  const lines = (await runCommand(['performance'], { answer })).out.split('\n');
  expect(lines).toEqual(
    expect.arrayContaining(['avg_task_execution_time\t12.3', 'resource_utilization of general_slots\t0.256', 'latency_ms of scheduling\t14.6']),
  );
  expect(JSON.parse((await runCommand(['--json', 'performance'], { answer })).out)).toEqual(performance);
});

test.each([
  [[], '24'],
  [['--since', '7d'], '168'],
  [['--since', '90min'], '2'],
  [['--since', hoursAgo(0.1)], '1'],
])('performance %j looks back %s hours [OBS-12]', async (args, hours) => {
  expect((await runCommand(['performance', ...args], { answer: () => performance })).sent[0]?.query.get('hours')).toBe(hours);
});

test('where no task completed, none has a duration [OBS-12]', async () => {
  const { out } = await runCommand(['performance'], {
    answer: () => ({ ...performance, tasks_completed: 0, avg_task_execution_time: 0, avg_workflow_completion_time: 0 }),
  });
  expect(out).toMatch(/^tasks_completed\t0\nresource_utilization/);
});
