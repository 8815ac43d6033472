import path from 'node:path';
import { pino } from 'pino';
import { installRuntime } from '../temporal/runtime.js';
import { benchBacklog } from './backlog.js';
import { benchChurn } from './churn.js';
import { benchCli } from './cli.js';
import { benchCore } from './core.js';
import { benchDashboard, benchOpenPage } from './dashboard.js';
import { benchDecide } from './decide.js';
import { benchEta } from './eta.js';
import { benchEvents } from './events.js';
import { benchHandover } from './handover.js';
import { benchList } from './list.js';
import { type Section, toMarkdown, writeSection } from './report.js';
import { benchResidency } from './residency.js';
import { benchSubmit } from './submit.js';
import { benchSwitching } from './switching.js';
import { benchWindow } from './window.js';

/** The benches by name; each starts what it needs and prints ours, the peer in the same run, and the bar. */
const benches: Readonly<Record<string, (scale: number) => Promise<Section>>> = {
  backlog: benchBacklog,
  churn: benchChurn,
  cli: benchCli,
  core: benchCore,
  dashboard: benchDashboard,
  decide: benchDecide,
  eta: benchEta,
  events: benchEvents,
  handover: benchHandover,
  list: benchList,
  'open-page': benchOpenPage,
  residency: benchResidency,
  submit: benchSubmit,
  switching: benchSwitching,
  window: benchWindow,
};

const usage = `npm run bench -- <${Object.keys(benches).join('|')}> [--scale 0.1] [--write]\n  --scale  a share of the full load, for a trial\n  --write  put the figures into docs/benchmarks.md`;
const [name = '', ...flags] = process.argv.slice(2);
const bench = benches[name];
if (!bench) {
  process.stderr.write(`${usage}\n`);
  process.exit(2);
}
installRuntime(pino({ level: 'error' }));
const scale = flags.includes('--scale') ? Number(flags[flags.indexOf('--scale') + 1]) : 1;
const section = await bench(scale);
process.stdout.write(`${toMarkdown(section)}\n`);
if (flags.includes('--write')) await writeSection(path.join(import.meta.dirname, '..', 'docs', 'benchmarks.md'), name, section);
process.exit(section.figures.some((figure) => figure.met === false) ? 1 : 0);
