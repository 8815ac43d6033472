import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pino } from 'pino';
import { expect, onTestFinished, test } from 'vitest';
import { loadConfig } from '../../../config.js';
import { readLevelAgain } from '../../../mains/read-level-again.js';

test('a changed level counts without a new start, and a file at fault changes nothing and is told [CFG-09]', async () => {
  const configDir = await mkdtemp(join(tmpdir(), 'level-'));
  onTestFinished(() => rm(configDir, { recursive: true }));
  const file = join(configDir, 'development.yaml');
  const lines: string[] = [];
  const log = pino({ level: 'info' }, { write: (line: string) => void lines.push(line) });
  const again = () => readLevelAgain(log, () => loadConfig({}, { configDir }));

  log.debug('unseen');
  await writeFile(file, 'logging: { level: DEBUG }\n');
  again();
  log.debug('seen');
  await writeFile(file, 'logging: { level: LOUD }\n');
  again();
  log.debug('seen still');

  expect(log.level).toBe('debug');
  expect(lines.join('')).not.toContain('unseen');
  expect(lines.map((line) => (JSON.parse(line) as { msg: string }).msg)).toEqual([
    'logging.level was read again',
    'seen',
    'logging.level stays as it is',
    'seen still',
  ]);
});
