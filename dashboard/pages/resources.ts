import type { ResourceUsageHistoryView } from '../../contract/schemas/observations.js';
import { drawLines, type Line, type LinesDrawing, thirdWidth } from '../drawings/lines.js';
import type { Page } from '../page.js';
import { wholeOf } from '../query.js';

/** Ranges of the lines, in minutes. */
const ranges = [60, 360, 1_440] as const;
/** Rows of a table that says the same as a line. */
const rowsMax = 12;

/** Machines, what is done on them, and pools and locks. */
export const resourcesPage: Page = {
  path: '/resources',
  nav: 'resources',
  access: 'read',
  view: 'resources',
  live: ['models'],
  async load({ caller, services, url }) {
    const minutes = wholeOf(url, 'minutes', ranges) ?? 60;
    const [usage, pools, locks] = await Promise.all([
      services.resourceUsage(minutes),
      services.listResources(caller),
      services.listLocks(caller, { limit: locksShown, cursor: null }),
    ]);
    const flowSpan = { from: usage.from, until: usage.until, stepSeconds: Math.max(60, usage.step_seconds) };
    const flow = (name: 'tasks_per_minute' | 'tokens_per_second' | 'loading_share', kind: string): Line => ({
      name,
      kind,
      points: usage.flow.map((point) => ({ at: point.at, value: point[name] })),
    });
    return {
      title: 'Resources',
      data: {
        usage,
        minutes,
        ranges,
        pools: pools.items,
        locks: locks.items,
        locksShown,
        machines: usage.machines.map((machine) => ({ ...machine, drawing: machineLines(machine, usage), rows: thinned(machine.points) })),
        flow: [
          { title: 'Tasks that ended, per minute', unit: 'number', drawing: drawLines([flow('tasks_per_minute', 'one')], flowSpan, null, thirdWidth) },
          { title: 'Tokens per second', unit: 'number', drawing: drawLines([flow('tokens_per_second', 'one')], flowSpan, null, thirdWidth) },
          { title: 'Time of hosts lost to loading models', unit: 'share', drawing: drawLines([flow('loading_share', 'three')], flowSpan, 1, thirdWidth) },
        ],
        flowRows: thinned(usage.flow),
      },
    };
  },
};

const locksShown = 50;

function machineLines(
  machine: ResourceUsageHistoryView['machines'][number],
  { from, until, step_seconds: stepSeconds }: ResourceUsageHistoryView,
): LinesDrawing {
  const line = (name: string, kind: string, field: 'cpu' | 'memory' | 'gpu' | 'gpu_memory'): Line => ({
    name,
    kind,
    points: machine.points.map((point) => ({ at: point.at, value: point[field] })),
  });
  const lines = [line('CPU', 'one', 'cpu'), line('memory', 'two', 'memory')];
  if (machine.points.some(({ gpu }) => gpu !== null)) lines.push(line('GPU', 'three', 'gpu'), line('GPU memory', 'four', 'gpu_memory'));
  return drawLines(lines, { from, until, stepSeconds }, 1);
}

/** Some of many rows, evenly, the latest first. */
function thinned<T>(rows: readonly T[]): readonly T[] {
  const every = Math.max(1, Math.ceil(rows.length / rowsMax));
  return rows.toReversed().filter((_, index) => index % every === 0);
}
