import { readFile } from 'node:fs/promises';
import path from 'node:path';
import { expect, test } from 'vitest';

interface LockedPackage {
  readonly optionalDependencies?: Readonly<Record<string, string>>;
}

const lockFile = path.join(import.meta.dirname, '..', '..', '..', 'package-lock.json');

// `npm ci` of npm 11 refuses a lock file that leaves out the packages of other platforms, which `npm install` does where the registry lacks them.
test('the lock file names the packages of every platform, so that npm ci works on each', async () => {
  const { packages } = JSON.parse(await readFile(lockFile, 'utf8')) as { packages: Readonly<Record<string, LockedPackage>> };
  const missing = Object.entries(packages).flatMap(([place, { optionalDependencies = {} }]) =>
    Object.keys(optionalDependencies).filter((name) => !(`node_modules/${name}` in packages) && !(`${place}/node_modules/${name}` in packages)),
  );
  expect(missing).toEqual([]);
});
