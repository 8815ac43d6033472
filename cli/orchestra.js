#!/usr/bin/env node
// What npm links as the command. It is there before the first build, since npx keeps for good what it finds at its first call in a folder.
import { existsSync } from 'node:fs';

const main = new URL('../dist/cli/main.js', import.meta.url);
if (existsSync(main)) {
  await import(main.href);
} else {
  process.stderr.write('orchestra: it is not built yet. `npm ci` and `npm start` build and start it; `npm run build` builds it.\n');
  process.exitCode = 1;
}
