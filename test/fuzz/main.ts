import { execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { access, chmod, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { parseArgs, promisify } from 'node:util';
import { loadConfig } from '../../config.js';
import { createProduct } from '../chaos/product.js';

// `npm run fuzz -- --seed 1 --examples 20`: starts the built product and has schemathesis (https://schemathesis.readthedocs.io) ask every operation of
// its OpenAPI document for what the document allows and for what it forbids. Fails on any server error, and on any answer that is not as declared.
// Needs python3 with venv; schemathesis is installed into the cache folder the first time.

const version = '4.32.5';
/** Operations left out, each with the reason. */
const leftOut: Readonly<Record<string, string>> = {
  streamEvents: 'a stream that does not end',
  streamTaskEvents: 'a stream that ends with its task',
  loadModel: 'answers 503 without a model server, as it should',
  unloadModel: 'answers 503 without a model server, as it should',
  pullModel: 'answers 503 without a model server, as it should',
};

const { values } = parseArgs({ options: { seed: { type: 'string', default: '1' }, examples: { type: 'string', default: '20' } } });
const run = promisify(execFile);
const say = (line: string) => console.log(line);

/** @returns the path of the program */
async function provideSchemathesis(): Promise<string> {
  const folder = path.join(loadConfig(process.env).cacheDir, `schemathesis-${version}`);
  const program = path.join(folder, 'bin', 'schemathesis');
  const present = await access(program).then(
    () => true,
    () => false,
  );
  if (present) return program;
  say(`installing schemathesis ${version} into ${folder}`);
  await run('python3', ['-m', 'venv', folder]);
  await run(path.join(folder, 'bin', 'pip'), ['install', '--quiet', '--disable-pip-version-check', `schemathesis==${version}`]);
  return program;
}

const program = await provideSchemathesis();
const home = await mkdtemp(path.join(tmpdir(), 'orchestra-fuzz-'));
await chmod(home, 0o755); // PostgreSQL runs as another user when this one is root
const product = await createProduct(home, { models: false });
try {
  await product.up();
  const { 'x-api-key': key = '' } = await product.headers();
  const args = [
    ...[
      '--config-file',
      path.join(import.meta.dirname, 'schemathesis.toml'),
      'run',
      `${product.api}/openapi.json`,
      '--header',
      `X-API-Key:${key}`,
      '--seed',
      values.seed,
      '--max-examples',
      values.examples,
    ],
    ...['--phases', 'examples,coverage,fuzzing,stateful', '--continue-on-failure', '--no-shrink', '--request-timeout', '30'],
    ...Object.keys(leftOut).flatMap((id) => ['--exclude-operation-id', id]),
  ];
  const child = spawn(program, args, { cwd: home, stdio: 'inherit' });
  const [code] = (await once(child, 'exit')) as [number | null];
  for (const [id, reason] of Object.entries(leftOut)) say(`left out: ${id}, ${reason}`);
  say(`schemathesis ${version}, seed ${values.seed}, ${values.examples} examples for each operation, the checks that test/fuzz/schemathesis.toml leaves`);
  say(code === 0 ? 'no server error, and every answer as declared' : `schemathesis ended with ${code}: its report is above`);
  process.exitCode = code === 0 ? 0 : 1;
} finally {
  const left = await product.down();
  if (left.length > 0) say(`killed: ${left.join(', ')}`);
  await rm(home, { recursive: true, force: true, maxRetries: 10, retryDelay: 100 });
}
