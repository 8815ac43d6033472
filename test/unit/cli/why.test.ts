import { expect, test } from 'vitest';
import { runCommand, type Sent } from './run-command.js';

const id = '8f14e45f-ceea-467f-a0e6-7c1f9d2b3a44';
const hostile = '\u001b]52;c;cm0=\u0007';
const at = (seconds: number) => new Date(Date.now() + seconds * 1_000).toISOString();
const decision = {
  id,
  at: at(-240),
  kind: 'residency',
  reason: `it waits ${hostile}`,
  task_id: id,
  step: 'write',
  model: 'qwen3:14b',
  unload: ['llama3.1:8b'],
  host: 'local',
  priority: 5,
  exact: 50,
  waited_ms: 84_000,
  terms: [{ model: 'llama3.1:8b', level: 5, load_ms: 5_000, served_ms: 98_000, quantum_ms: 95_000, affinity: 0 }],
  algorithm: 'priority_affinity',
  model_version: null,
  fallback: 'the learned agent v1 was not used: it is not trained yet',
  execution_time_ms: 1,
};
const answers: Readonly<Record<string, object>> = {
  [`/tasks/${id}`]: { id, status: 'queued', status_detail: 'waiting_model', error: { code: 'no_memory', message: hostile } },
  '/queue': {
    items: [
      {
        step: 'write',
        position: 3,
        reason: '3rd: waits for qwen3:14b',
        estimated_start_time: at(21.5),
        estimated_start_interval: [at(15.5), at(40.5)],
        estimated_completion_time: at(130),
      },
      { step: null, position: 9, reason: null, estimated_start_time: null, estimated_start_interval: null, estimated_completion_time: null },
    ],
  },
  '/decisions': { items: [decision, { ...decision, kind: 'grant', terms: [], fallback: null, waited_ms: null }], next_cursor: null },
};

test('why tells the place, the times, the reason and the decisions of one task, with nothing that a terminal would obey [SCHED-05, SCHED-22]', async () => {
  const sent: Sent[] = [];
  const answer = (call: Sent) => {
    sent.push(call);
    return answers[call.path];
  };
  const ran = await runCommand(['why', id, '--limit', '2'], { answer });
  expect(ran).toMatchObject({ code: 0, err: '' });
  expect(ran.out.split('\n')).toEqual([
    `${id}  queued, waits for its model`,
    'step write, 3rd: waits for qwen3:14b',
    '  starts in 21 s (15 s to 40 s), the task ends in 2 min',
    'place 9',
    'error no_memory: \\x1b]52;c;cm0=\\x07',
    'decisions, the newest first',
    '  4 min ago: local loads qwen3:14b instead of llama3.1:8b, after 84.0 s: it waits \\x1b]52;c;cm0=\\x07',
    '    llama3.1:8b had served 98.0 s of 95.0 s that its load of 5.0 s has bought',
    '    the learned agent v1 was not used: it is not trained yet',
    '  4 min ago: a slot on local for step write: it waits \\x1b]52;c;cm0=\\x07',
    '',
  ]);
  expect(sent.filter(({ path }) => path !== `/tasks/${id}`).map(({ path, query }) => [path, query.get('task_id'), query.get('limit')])).toEqual([
    ['/queue', id, '50'],
    ['/decisions', id, '2'],
  ]);
  const printed = JSON.parse((await runCommand(['--json', 'why', id], { answer })).out) as object;
  expect(printed).toMatchObject({ task: { id }, waits: [{ position: 3 }, { position: 9 }], decisions: [{ kind: 'residency' }, { kind: 'grant' }] });
});
