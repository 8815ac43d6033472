import { expect, test } from 'vitest';
import { Model, ModelList, type ModelListView } from '../../../contract/schemas/model.js';
import { runCommand } from './run-command.js';

const model = (name: string, host: string, loaded: boolean) => ({ ...(Model.meta()?.example as object), name, host, loaded });
const hosts: ModelListView['hosts'] = [
  {
    ...{ id: 'local', ready: true, why: null, address: 'http://127.0.0.1:11434', version: '0.24.0', parallel: 2, models_max: 3 },
    ...{ budget_bytes: 25_757_220_864, room_bytes: 9_400_000_000 },
  },
  {
    ...{ id: 'shelf', ready: false, why: 'the server\tdoes not answer\u001b[2J', address: 'http://shelf:11434', version: null, parallel: 1, models_max: 1 },
    ...{ budget_bytes: null, room_bytes: null },
  },
];
const items = [model('llama3.2:latest', 'local', true), model('qwen3:8b', 'local', false), model('gemma3:4b', 'shelf', true)];
const answer = (list: object) => () => ModelList.parse({ items: [], hosts: [], aliases: [], ...list });

test('hosts are told by line with what they hold, may hold and why one takes no work [MGR-10, MODEL-15]', async () => {
  const { code, out, err, sent } = await runCommand(['models', 'hosts'], { answer: answer({ items, hosts }) });
  expect(sent).toMatchObject([{ method: 'GET', path: '/models' }]);
  expect({ code, err }).toEqual({ code: 0, err: '' });
  expect(out.split('\n')).toEqual([
    'local\tready\t1 of 3\t9.4 GB\t25.8 GB\t2\thttp://127.0.0.1:11434\t',
    // what a server says moves neither columns nor the cursor
    'shelf\tno work\t1 of 1\t\t\t1\thttp://shelf:11434\tthe server does not answer\\x1b[2J',
    '',
  ]);
});

test('a person sees the hosts as a table with titles; --json gives them as the API does [MGR-10]', async () => {
  const table = await runCommand(['models', 'hosts'], { answer: answer({ items, hosts }), terminal: true, env: { NO_COLOR: '1' } });
  expect(table.out).toMatch(/^HOST +STATE +LOADED +ROOM +BUDGET +PARALLEL +SERVER +WHY/);
  const json = await runCommand(['models', 'hosts', '--json'], { answer: answer({ items, hosts }) });
  expect(JSON.parse(json.out)).toEqual(hosts);
});

test('where no host is known it is said how a machine becomes one [MGR-10]', async () => {
  expect(await runCommand(['models', 'hosts'], { answer: answer({}) })).toMatchObject({
    code: 0,
    out: '',
    err: expect.stringContaining('`orchestra host` makes a machine'),
  });
});
