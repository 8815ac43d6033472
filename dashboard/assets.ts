import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import path from 'node:path';
import type { Hono } from 'hono';
import { packageRoot } from '../config.js';
import type { AppEnv } from '../api/env.js';

const room = path.join(packageRoot(), 'dashboard');
const packages = createRequire(import.meta.url);
const fromPackage = (name: string, file: string) => path.join(path.dirname(packages.resolve(`${name}/package.json`)), file);
const script = 'text/javascript; charset=utf-8';
const style = 'text/css; charset=utf-8';

/** Every file that a page may load, by name: ours, and those of packages, so that pages work without any other server. */
const files: Readonly<Record<string, { readonly file: string; readonly type: string }>> = {
  'style.css': { file: path.join(room, 'styles', 'style.css'), type: style },
  'icon.svg': { file: path.join(room, 'styles', 'icon.svg'), type: 'image/svg+xml' },
  'theme.js': { file: path.join(room, 'browser', 'theme.js'), type: script },
  'frame.js': { file: path.join(room, 'browser', 'frame.js'), type: script },
  'bulk.js': { file: path.join(room, 'browser', 'bulk.js'), type: script },
  'commands.js': { file: path.join(room, 'browser', 'commands.js'), type: script },
  'queue.js': { file: path.join(room, 'browser', 'queue.js'), type: script },
  'models.js': { file: path.join(room, 'browser', 'models.js'), type: script },
  'task.js': { file: path.join(room, 'browser', 'task.js'), type: script },
  'template.js': { file: path.join(room, 'browser', 'template.js'), type: script },
  'history.js': { file: path.join(room, 'browser', 'history.js'), type: script },
  'sign-in.js': { file: path.join(room, 'browser', 'sign-in.js'), type: script },
  'htmx.js': { file: fromPackage('htmx.org', 'dist/htmx.min.js'), type: script },
  'sortable.js': { file: fromPackage('sortablejs', 'Sortable.min.js'), type: script },
};

/** Gives the address of a file, which changes with its content, so that browsers keep it until then. */
export type AssetUrl = (name: string) => string;

/** Serves the files at `/assets/`; they hold no secrets and need no sign-in. Reads all of them at once, so that a missing one is found at the start. */
export function serveAssets(app: Pick<Hono<AppEnv>, 'get'>): AssetUrl {
  const served = new Map(
    Object.entries(files).map(([name, { file, type }]) => {
      const body = readFileSync(file);
      return [name, { body, type, version: createHash('sha256').update(body).digest('hex').slice(0, 12) }];
    }),
  );
  for (const [name, { body, type }] of served) {
    app.get(`/assets/${name}`, (c) => c.body(new Uint8Array(body), 200, { 'Content-Type': type, 'Cache-Control': 'public, max-age=31536000, immutable' }));
  }
  return (name) => {
    const found = served.get(name);
    if (found === undefined) throw new Error(`there is no asset ${name}`);
    return `/assets/${name}?v=${found.version}`;
  };
}
