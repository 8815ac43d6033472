import { expect, test } from 'vitest';
import { Alert } from '../../../contract/schemas/observations.js';
import { runCommand } from './run-command.js';

const example = Alert.parse(Alert.meta()?.example);
const holds = { ...example, subject: 'api', message: `${example.message}\u001b[2J` };
const ended = { ...example, rule: 'long_queue', message: 'queue_size is 600, above 500.', cleared_at: '2026-01-09T10:40:00.000Z' };
const answer =
  (...items: object[]) =>
  () => ({ items });

const holdsLine = `high_error_rate\tapi\t2026-01-09T10:30:00.000Z\t\t${example.message}\\x1b[2J\n`;
const endedLine = 'long_queue\t\t2026-01-09T10:30:00.000Z\t2026-01-09T10:40:00.000Z\tqueue_size is 600, above 500.\n';

test('alerts that hold are told, and make the exit code 1 [MGR-10, OBS-10]', async () => {
  const ran = await runCommand(['alerts'], { answer: answer(holds, ended) });
  expect(ran).toMatchObject({ code: 1, out: holdsLine, err: '', sent: [{ method: 'GET', path: '/alerts' }] });
  expect(await runCommand(['alerts', '--all'], { answer: answer(holds, ended) })).toMatchObject({ code: 1, out: holdsLine + endedLine, err: '' });
  const json = await runCommand(['--json', 'alerts'], { answer: answer(holds, ended) });
  expect([json.code, JSON.parse(json.out)]).toEqual([1, { items: [holds, ended] }]);
});

test('where no alert holds the exit code is 0, and it is said [MGR-10, OBS-10]', async () => {
  expect(await runCommand(['alerts'], { answer: answer() })).toMatchObject({ code: 0, out: '', err: 'No alert holds.\n' });
  expect(await runCommand(['alerts'], { answer: answer(ended) })).toMatchObject({
    code: 0,
    out: '',
    err: 'No alert holds; --all shows those that have ended.\n',
  });
  expect(await runCommand(['alerts', '--all'], { answer: answer(ended) })).toMatchObject({ code: 0, out: endedLine, err: 'No alert holds.\n' });
  expect(await runCommand(['--json', '--quiet', 'alerts'], { answer: answer(ended) })).toMatchObject({ code: 0, err: '' });
});

test('a person sees alerts as a table that leaves no message out [MGR-10]', async () => {
  const { out } = await runCommand(['alerts'], { answer: answer(holds), terminal: true, env: { NO_COLOR: '1' } });
  expect(out).toMatch(/^RULE +OF +SINCE +ENDED +MESSAGE\nhigh_error_rate +api +\d+ d ago +12 % of the attempts of steps failed; more than 5 % is too much\./);
});

test('an API that refuses the key is not taken for one without alerts [MGR-10, OBS-10]', async () => {
  expect(await runCommand(['alerts'], { answer: () => Response.json({ status: 401, code: 'unauthorized', detail: 'No.' }, { status: 401 }) })).toMatchObject({
    code: 4,
  });
});
