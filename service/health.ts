import { cpus, freemem, totalmem } from 'node:os';
import { type HealthCheckName, type HealthCheckView, healthChecks, type HealthView } from '../contract/schemas/health.js';
import { type HostSeen, pingDatabase, readParts } from '../db/health.js';
import type { ServiceDeps } from './deps.js';
import { whyNoWork } from './list-models.js';
import { within } from './within.js';

/** A part that takes longer than this to answer counts as down. */
const checkTimeoutMs = 2_000;
/** Share of processor time, and of memory, from which the machine counts as full. */
const fullShare = 0.9;

const fenceWords: Readonly<Record<string, string>> = {
  bwrap: 'Scripts run in bubblewrap (level bwrap).',
  uid: 'Scripts run weakly fenced, as another user (level uid).',
  none: 'Scripts run with limits alone, NOT fenced (level none).',
  refused: 'Scripts are refused: they cannot be fenced here as SANDBOX_MIN asks; `orchestra doctor` says what to do.',
};

type Verdict = Omit<HealthCheckView, 'milliseconds'>;

export interface HealthUseCases {
  /** every part, checked now, side by side */
  health(): Promise<HealthView>;
  /** whether tasks are accepted: the database answers */
  ready(): Promise<boolean>;
}

/** Checks of the parts; each one fails alone. */
export function healthUseCases({ sql, temporal, log, config }: ServiceDeps): HealthUseCases {
  const processorShare = processorMeter();
  const checks: Record<HealthCheckName, () => Promise<Verdict>> = {
    async database_connection() {
      await pingDatabase(sql);
      return { status: 'ok', detail: 'The database answers.' };
    },
    async temporal_connection() {
      const client = await temporal();
      await client.withDeadline(Date.now() + checkTimeoutMs, () => client.workflowService.getSystemInfo({}));
      return { status: 'ok', detail: 'Temporal answers.' };
    },
    async engine() {
      const { engines, generalSlots, fences } = await readParts(sql);
      if (engines === 0) return { status: 'down', detail: 'No engine is running; tasks wait.' };
      const scripts = fences.map((fence) => fenceWords[fence] ?? `Scripts are fenced by ${fence}.`);
      const detail = [`${engines} running, with ${generalSlots} slots for steps without a model.`, ...scripts].join(' ');
      return { status: fences.includes('refused') ? 'degraded' : 'ok', detail };
    },
    async ollama() {
      const { hosts } = await readParts(sql);
      const ready = hosts.filter((host) => host.live && host.ready);
      const [only] = hosts;
      const why = hosts.length === 1 && only ? whyNoWork(only) : others(hosts);
      if (hosts.length === 0) return { status: 'down', detail: 'No host with a model server is known; steps with a model wait.' };
      if (ready.length === 0) return { status: 'down', detail: `No model server takes work: ${why}; steps with a model wait.` };
      const silent = ready.length < hosts.length ? [`${others(hosts)}.`] : [];
      const warnings = [...new Set(ready.flatMap(({ warning }) => (warning === null ? [] : [`${warning}.`])))];
      return {
        status: ready.length === hosts.length && warnings.length === 0 ? 'ok' : 'degraded',
        detail: [`${ready.length} of ${hosts.length} model servers answer.`, ...silent, ...warnings].join(' '),
      };
    },
    async system_resources() {
      const processor = processorShare();
      const memory = 1 - freemem() / totalmem();
      const full = processor >= fullShare || memory >= fullShare;
      return { status: full ? 'degraded' : 'ok', detail: `Processor ${percent(processor)}, memory ${percent(memory)} in use.` };
    },
  };

  async function check(name: HealthCheckName): Promise<HealthCheckView> {
    const startedMs = performance.now();
    const verdict = await within(checkTimeoutMs, name, checks[name]()).catch((error: unknown): Verdict => {
      log.warn({ err: error, check: name }, 'health check failed');
      return { status: 'down', detail: 'It does not answer.' };
    });
    return { ...verdict, milliseconds: Math.round(performance.now() - startedMs) };
  }

  return {
    async health() {
      const results = await Promise.all(healthChecks.map(async (name) => [name, await check(name)] as const));
      const byName = Object.fromEntries(results) as HealthView['checks'];
      const allOk = results.every(([, result]) => result.status === 'ok');
      return { status: byName.database_connection.status === 'down' ? 'down' : allOk ? 'ok' : 'degraded', version: config.version, checks: byName };
    },
    async ready() {
      return (await check('database_connection')).status === 'ok';
    },
  };
}

/** Hosts that take no work, each with the reason. */
function others(hosts: readonly HostSeen[]): string {
  return hosts.flatMap((host) => (host.live && host.ready ? [] : [`${host.id}: ${whyNoWork(host)}`])).join('; ');
}

/** Measures the share of processor time in use since the last call; the first call: since the machine started. */
export function processorMeter(): () => number {
  let before = { busy: 0, all: 0 };
  return () => {
    const times = cpus().map((cpu) => cpu.times);
    const all = times.reduce((sum, time) => sum + time.user + time.nice + time.sys + time.idle + time.irq, 0);
    const now = { busy: all - times.reduce((sum, time) => sum + time.idle, 0), all };
    const share = now.all === before.all ? 0 : (now.busy - before.busy) / (now.all - before.all);
    before = now;
    return share;
  };
}

function percent(share: number): string {
  return `${Math.round(share * 100)} %`;
}
