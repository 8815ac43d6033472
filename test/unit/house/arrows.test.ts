import { execFile } from 'node:child_process';
import { cp, mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';

const root = path.join(import.meta.dirname, '..', '..', '..');

interface Diagnostic {
  readonly code: string;
  readonly filename: string;
}

const restrictedImport = 'eslint(no-restricted-imports)';

/** What no room may do: a line of code, and the rule that has to refuse it. */
const wrong: readonly (readonly [room: string, line: string, code: string])[] = [
  ['contract', `import { readFile } from 'node:fs/promises'; export const a = readFile;`, restrictedImport],
  ['contract', `import { z } from 'zod'; export const a = z;`, restrictedImport],
  ['contract', `import { a as b } from './schemas/a.js'; export const a = b;`, restrictedImport],
  ['contract', `import { a as b } from '../scheduling/a.js'; export const a = b;`, restrictedImport],
  ['contract/schemas', `import postgres from 'postgres'; export const a = postgres;`, restrictedImport],
  ['contract/schemas', `import { a as b } from '../../db/a.js'; export const a = b;`, restrictedImport],
  ['db', `import { a as b } from '../config.js'; export const a = b;`, restrictedImport],
  ['scheduling', `import type { a as b } from '../config.js'; export type a = typeof b;`, restrictedImport],
  ['scheduling', `import { setTimeout } from 'node:timers/promises'; export const a = setTimeout;`, restrictedImport],
  ['scheduling', `import type { a as b } from '../db/a.js'; export type a = typeof b;`, restrictedImport],
  ['scheduling', `export const a = () => Date.now();`, 'eslint(no-restricted-globals)'],
  ['scheduling', `export const a = () => new Date();`, 'eslint(no-restricted-globals)'],
  ['scheduling', `export const a = () => Math.random();`, 'eslint(no-restricted-properties)'],
  ['contract', `export const a = () => Math.random();`, 'eslint(no-restricted-properties)'],
  ['db', `import { a as b } from '../service/a.js'; export const a = b;`, restrictedImport],
  ['db/server', `import { a as b } from '../../engine/a.js'; export const a = b;`, restrictedImport],
  ['activities/steps', `import { a as b } from '../../workflows/a.js'; export const a = b;`, restrictedImport],
  ['workflows', `import { a as b } from '../activities/a.js'; export const a = b;`, restrictedImport],
  ['workflows', `import { readFile } from 'node:fs/promises'; export const a = readFile;`, restrictedImport],
  ['workflows', `import { z } from 'zod'; export const a = z;`, restrictedImport],
  ['workflows', `import { a as b } from '../contract/schemas/a.js'; export const a = b;`, restrictedImport],
  ['workflows', `import { Client } from '@temporalio/client'; export const a = Client;`, restrictedImport],
  ['workflows', `import { Worker } from '@temporalio/worker'; export const a = Worker;`, restrictedImport],
  ['workflows', `import { a as b } from '../db/a.js'; export const a = b;`, restrictedImport],
  ['templates', `import { a as b } from '../activities/git/a.js'; export const a = b;`, restrictedImport],
  ['templates', `import { a as b } from '../db/a.js'; export const a = b;`, restrictedImport],
  ['temporal', `import { a as b } from '../db/a.js'; export const a = b;`, restrictedImport],
  ['service', `import { a as b } from '../engine/a.js'; export const a = b;`, restrictedImport],
  ['engine', `import { a as b } from '../service/a.js'; export const a = b;`, restrictedImport],
  ['engine', `import { a as b } from '../templates/a.js'; export const a = b;`, restrictedImport],
  ['host', `import { a as b } from '../engine/a.js'; export const a = b;`, restrictedImport],
  ['host', `import { a as b } from '../service/a.js'; export const a = b;`, restrictedImport],
  ['api/routes', `import { a as b } from '../../db/a.js'; export const a = b;`, restrictedImport],
  ['api', `import { Client } from '@temporalio/client'; export const a = Client;`, restrictedImport],
  ['dashboard', `import { a as b } from '../db/a.js'; export const a = b;`, restrictedImport],
  ['cli', `import { a as b } from '../service/a.js'; export const a = b;`, restrictedImport],
  ['cli', `import { a as b } from '../mains/a.js'; export const a = b;`, restrictedImport],
  ['cli/commands', `import { a as b } from '../../service/a.js'; export const a = b;`, restrictedImport],
  ['cli/commands', `export const a = process.env['HOME'];`, 'node(no-process-env)'],
  ['client', `import { a as b } from '../service/a.js'; export const a = b;`, restrictedImport],
  ['client', `import { a as b } from '../cli/a.js'; export const a = b;`, restrictedImport],
  ['client', `import { a as b } from '../contract/schemas/a.js'; export const a = b;`, restrictedImport],
  ['client', `import { z } from 'zod'; export const a = z;`, restrictedImport],
  ['service', `import { a as b } from '../client/a.js'; export const a = b;`, restrictedImport],
  ['api', `import { a as b } from '../client/a.js'; export const a = b;`, restrictedImport],
  ['mains', `import { a as b } from '../test/a.js'; export const a = b;`, restrictedImport],
  ['service', `export const a = process.env['HOME'];`, 'node(no-process-env)'],
  ['service', `import { env } from 'node:process'; export const a = env;`, restrictedImport],
  ['db', `export const a = (sql: { unsafe(text: string): void }) => sql.unsafe('select 1');`, 'eslint(no-restricted-properties)'],
  ['service', `export const a = (b: any) => b;`, 'typescript(no-explicit-any)'],
  ['service', `export const a = () => { Promise.resolve(1); };`, 'typescript(no-floating-promises)'],
  ['service', `export const a = (b: () => Promise<boolean>) => { if (b()) throw new Error('always'); };`, 'typescript(no-misused-promises)'],
  ['service', `export const a = async () => { await 1; };`, 'typescript(await-thenable)'],
  ['service', `export const a = () => console.log(1);`, 'eslint(no-console)'],
];

/** What the arrows allow; a rule that refused everything would satisfy the list above. */
const right: readonly (readonly [room: string, line: string])[] = [
  ['contract/schemas', `import { z } from 'zod'; import { a as b } from '../a.js'; export const a = [z, b];`],
  ['db', `import type { a as b } from '../config.js'; export const a = (c: typeof b) => c;`],
  ['temporal', `import { a as b } from '../workflows/a.messages.js'; import type { a as c } from '../db/a.js'; export const a = (d: typeof c) => [b, d];`],
  ['mains', `import { a as b } from '../config.js'; export const a = [b, process.env['HOME']];`],
  ['scheduling', `import { a as b } from '../contract/a.js'; export const a = b;`],
  ['workflows', `import { sleep } from '@temporalio/workflow'; import { a as b } from '../scheduling/a.js'; export const a = [sleep, b];`],
  [
    'workflows',
    `import { ApplicationFailure } from '@temporalio/common'; import type { a as b } from '../activities/a.js'; export const a = (c: typeof b) => [ApplicationFailure, c];`,
  ],
  ['activities/steps', `import { a as b } from '../../db/a.js'; import { a as c } from '../git/a.js'; export const a = [b, c];`],
  ['templates', `import { a as b } from '../activities/steps/a.js'; export const a = b;`],
  ['service', `import { a as b } from '../db/a.js'; import { a as c } from '../templates/a.js'; export const a = [b, c];`],
  ['api/routes', `import { a as b } from '../../service/a.js'; export const a = b;`],
  ['client', `import { a as b } from '../contract/a.js'; import type { a as c } from '../contract/schemas/a.js'; export const a = (d: typeof c) => [b, d];`],
  ['cli/commands', `import { a as b } from '../../client/a.js'; import { a as c } from '../../contract/a.js'; export const a = [b, c];`],
  ['mains', `import { a as b } from '../engine/a.js'; import { a as c } from '../api/a.js'; export const a = [b, c];`],
];

describe('the lint configuration holds the house together', () => {
  let folder: string;
  let found: Diagnostic[];
  const refusals = (file: string) => found.filter(({ filename }) => filename === file).map(({ code }) => code);

  beforeAll(async () => {
    folder = await mkdtemp(path.join(tmpdir(), 'orchestra-arrows-'));
    await cp(path.join(root, '.oxlintrc.json'), path.join(folder, '.oxlintrc.json'));
    await writeFile(path.join(folder, 'tsconfig.json'), JSON.stringify({ compilerOptions: { strict: true, module: 'nodenext', target: 'es2023', types: [] } }));
    const write = async (file: string, text: string) => {
      await mkdir(path.dirname(path.join(folder, file)), { recursive: true });
      await writeFile(path.join(folder, file), text);
    };
    for (const [index, [room, line]] of wrong.entries()) await write(`${room}/wrong-${index}.ts`, `${line}\n`);
    for (const [index, [room, line]] of right.entries()) await write(`${room}/right-${index}.ts`, `${line}\n`);
    await write('service/cycle-a.ts', `import { b } from './cycle-b.js';\nexport const a = () => b;\n`);
    await write('service/cycle-b.ts', `import { a } from './cycle-a.js';\nexport const b = () => a;\n`);
    await write('config.ts', `import { a as b } from './db/a.js';\nexport const a = [b, process.env['HOME']];\n`);
    found = await lint(folder);
  });

  afterAll(() => rm(folder, { recursive: true, force: true }));

  test.each(wrong.map(([room, line, code], index) => ({ room, line, code, index })))('$room: $line', ({ room, code, index }) => {
    expect(refusals(`${room}/wrong-${index}.ts`)).toContain(code);
  });

  test.each(right.map(([room, line], index) => ({ room, line, index })))('$room may: $line', ({ room, index }) => {
    expect(refusals(`${room}/right-${index}.ts`)).toEqual([]);
  });

  test('config.ts may read the environment and import no room but contract/', () => {
    expect(refusals('config.ts')).toEqual([restrictedImport]);
  });

  test('a circle of imports is refused', () => {
    expect(refusals('service/cycle-a.ts')).toContain('import(no-cycle)');
  });
});

/** oxlint exits with 1 when it finds something, which is what is wanted here. */
async function lint(folder: string): Promise<Diagnostic[]> {
  const oxlint = path.join(root, 'node_modules', '.bin', 'oxlint');
  const printed = await new Promise<string>((resolve, reject) => {
    execFile(oxlint, ['--type-aware', '--format', 'json'], { cwd: folder, maxBuffer: 16_000_000 }, (error, stdout, stderr) => {
      if (stdout.startsWith('{')) resolve(stdout);
      else reject(new Error(`oxlint printed no result: ${stdout}${stderr}`, { cause: error }));
    });
  });
  return (JSON.parse(printed) as { diagnostics: Diagnostic[] }).diagnostics;
}
