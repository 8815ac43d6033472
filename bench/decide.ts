import { priorityAffinity } from '../scheduling/priority-affinity.js';
import type { Snapshot } from '../scheduling/policy.js';
import type { Figure, Section } from './report.js';
import { modelsOf, poissonArrivals, stepsOf } from './simulator/arrivals.js';
import type { SimStep } from './simulator/line.js';
import { productScheduler } from './simulator/ours.js';
import { peers } from './simulator/peers.js';
import { type Scheduler, simulate, type World } from './simulator/simulate.js';
import { inUnits, quantile } from './statistics.js';

const modelCount = 200;
const barMs = 50;

/** What one decision takes in a long line [PERF-06, PERF-07]. */
export async function benchDecide(scale: number): Promise<Section> {
  const waiting = Math.max(100, Math.round(10_000 * scale));
  const figures = [
    figureOf('one host that holds 3 models, 4 slots each', waiting, [{ modelsMax: 3, parallel: 4 }]),
    figureOf(
      'four hosts that hold 4 models, 4 slots each',
      waiting,
      Array.from({ length: 4 }, () => ({ modelsMax: 4, parallel: 4 })),
    ),
  ];
  return await Promise.resolve({
    title: 'Decisions in a long line',
    method:
      `${waiting} steps of all ten levels wait for ${modelCount} models, and go on waiting: each one that starts is followed by another. What is measured is the policy: from a snapshot, as the engine reads it, to grants and orders. ` +
      'Reading it from PostgreSQL and writing what was decided is not in here. The index rule chooses a model for one host and nothing else.',
    peer: 'index rule (its heads by arrival)',
    figures: figures.flat(),
  });
}

function figureOf(name: string, waiting: number, hosts: readonly { modelsMax: number; parallel: number }[]): Figure[] {
  const levels = Array.from({ length: 10 }, () => 1);
  const models = modelsOf(modelCount, 5_000);
  const steps = stepsOf(poissonArrivals(waiting + 3_000, 1, 10_000, 3), { seed: 4, models, levels, even: true });
  const world = { models, hosts: hosts.map((host, index) => ({ ...host, host: `host ${index + 1}`, bytes: null, compute: 100 })) };
  const { snapshots, heap } = snapshotsOf(world, steps, waiting);
  const policy = priorityAffinity();
  for (const snapshot of snapshots) policy(snapshot);
  const took: number[] = [];
  const startedAt = process.cpuUsage();
  for (let round = 0; round < 10; round += 1) {
    for (const snapshot of snapshots) {
      const beganMs = performance.now();
      policy(snapshot);
      took.push(performance.now() - beganMs);
    }
  }
  const { user, system } = process.cpuUsage(startedAt);
  const perSecond = (1e6 * took.length) / (user + system);
  const peer = hosts.length === 1 ? indexTimes(world, steps, waiting) : [];
  const quantiles = (times: readonly number[]) => [0.5, 0.95, 0.99].map((each) => inUnits(quantile(times, each))).join(' / ');
  return [
    {
      name: `${name}: policy, p50 / p95 / p99 of ${took.length} decisions`,
      ours: quantiles(took),
      peer: peer.length > 0 ? quantiles(peer) : '',
      ratio: '',
      bar: `p95 under ${barMs} ms [PERF-06]`,
      met: quantile(took, 0.95) < barMs,
    },
    {
      name: `${name}: decisions in a second of one core`,
      ours: `${Math.round(perSecond)}`,
      peer: peer.length > 0 ? `${Math.round(1_000 / quantile(peer, 0.5))}` : '',
      ratio: '',
      bar: 'more than 1,000 [PERF-07]',
      met: perSecond > 1_000,
    },
    {
      name: `${name}: heads in a snapshot; heap of the bench at most`,
      ours: `${Math.round(snapshots.reduce((sum, { heads }) => sum + heads.length, 0) / snapshots.length)}; ${Math.round(heap / 2 ** 20)} MiB`,
      peer: '',
      ratio: '',
      bar: '',
      met: null,
    },
  ];
}

/** Snapshots of a line that is worked on, some way apart, and the most that the heap held. */
function snapshotsOf(world: World, steps: readonly SimStep[], waiting: number): { snapshots: Snapshot[]; heap: number } {
  const snapshots: Snapshot[] = [];
  let [heap, seen] = [0, 0];
  const scheduler = productScheduler((snapshot) => {
    seen += 1;
    if (seen > 200 && seen % 5 === 0) snapshots.push(snapshot);
    return priorityAffinity()(snapshot);
  });
  const watch = () => {
    if (seen % 200 === 0) heap = Math.max(heap, process.memoryUsage().heapUsed);
    if (snapshots.length >= 300) throw new EnoughSeen();
  };
  untilEnough(() => simulate(world, steps, scheduler, { window: waiting, watch }));
  return { snapshots, heap };
}

class EnoughSeen extends Error {}

function untilEnough(job: () => unknown): void {
  try {
    job();
  } catch (error) {
    if (!(error instanceof EnoughSeen)) throw error;
  }
}

function indexTimes(world: World, steps: readonly SimStep[], waiting: number): number[] {
  const took: number[] = [];
  const index = peers.index();
  const measured: Scheduler = (view) => {
    const beganMs = performance.now();
    const moves = index(view);
    took.push(performance.now() - beganMs);
    return moves;
  };
  untilEnough(() =>
    simulate(world, steps, measured, {
      window: waiting,
      watch: () => {
        if (took.length > 4_000) throw new EnoughSeen();
      },
    }),
  );
  return took.slice(200);
}
