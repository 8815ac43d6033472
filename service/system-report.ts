import type { HealthView } from '../contract/schemas/health.js';
import type { SystemReportView } from '../contract/schemas/observations.js';
import { listAlerts } from '../db/alerts.js';
import { readSystem, readWaits, type WaitSeen } from '../db/health.js';
import type { ServiceDeps } from './deps.js';
import { alertView } from './observations.js';
import { within } from './within.js';

const temporalTimeoutMs = 2_000;
/** Every page asks, so the answer is kept for this long. */
const keptMs = 1_000;
const alertsShown = 20;

export interface SystemUseCases {
  /** how the parts are, checked now */
  systemReport(): Promise<SystemReportView>;
  /** What keeps work waiting or needs somebody, one sentence each; at most a second old. */
  troubles(): Promise<readonly string[]>;
}

export interface SystemDeps {
  health(): Promise<HealthView>;
  /** files of templates that could not be read */
  brokenTemplates(): readonly string[];
  /** streams of events that this process serves */
  streams(): number;
}

export function systemUseCases({ sql, temporal, log, config }: ServiceDeps, { health, brokenTemplates, streams }: SystemDeps): SystemUseCases {
  let kept: { readonly found: Promise<readonly string[]>; readonly untilMs: number } | null = null;
  const troubles = () => {
    if (kept !== null && performance.now() < kept.untilMs) return kept.found;
    const found = readWaits(sql).then(troublesOf);
    kept = { found, untilMs: performance.now() + keptMs };
    found.catch(() => {
      kept = null;
    });
    return found;
  };
  const temporalVersion = async (): Promise<string> => {
    try {
      const client = await within(temporalTimeoutMs, 'Temporal', temporal());
      const info = await client.withDeadline(Date.now() + temporalTimeoutMs, () => client.workflowService.getSystemInfo({}));
      return info.serverVersion ?? 'unknown';
    } catch (error) {
      log.debug({ err: error }, 'Temporal did not tell its version');
      return 'unknown';
    }
  };
  return {
    troubles,
    async systemReport() {
      const [healthNow, system, alerts, told, serverVersion] = await Promise.all([health(), readSystem(sql), listAlerts(sql), troubles(), temporalVersion()]);
      return {
        status: healthNow.status,
        checked_at: new Date().toISOString(),
        checks: Object.entries(healthNow.checks).map(([name, check]) => ({ name, ...check })),
        versions: [
          { part: 'AI Task Orchestra', version: config.version },
          { part: 'Temporal', version: serverVersion },
          { part: 'PostgreSQL', version: system.databaseVersion },
          ...system.hosts.map(({ id, version }) => ({ part: `Ollama on ${id}`, version: version ?? 'unknown' })),
        ],
        engines: system.engines.map(({ leaseUntil, ...engine }) => ({ ...engine, lease_until: leaseUntil.toISOString() })),
        hosts: system.hosts.map(({ leaseUntil, ...host }) => ({ ...host, lease_until: leaseUntil.toISOString() })),
        counts: { queued: system.counts.queued, running: system.counts.running, waiting_steps: system.counts.waiting, streams: streams() },
        broken_templates: [...brokenTemplates()],
        alerts: alerts.slice(0, alertsShown).map(alertView),
        troubles: [...told],
      };
    },
  };
}

const asSentence = (text: string) => `${text.charAt(0).toUpperCase()}${text.slice(1)}${text.endsWith('.') ? '' : '.'}`;

/** What keeps work waiting, and what is alerted of, in words. */
export function troublesOf({ general, model, engines, hosts, hostsReady, whyNot, alerts }: WaitSeen): string[] {
  const steps = (count: number) => `${count} ${count === 1 ? 'step waits' : 'steps wait'}`;
  return [
    ...(engines === 0 && general + model > 0
      ? [`No engine is running: ${steps(general + model)} and nothing starts. Start one with npm start or orchestra engine.`]
      : []),
    ...(hostsReady === 0 && hosts > 0
      ? [
          `No model server takes work${model > 0 ? `: ${steps(model)} for a model` : ''}. ${whyNot.length === 1 ? asSentence(whyNot[0] ?? '') : 'Is Ollama running? The System page says what each host reports.'}`,
        ]
      : []),
    ...(hosts === 0 && model > 0 ? [`No host with a model server is known: ${steps(model)} for a model. Start one with orchestra host.`] : []),
    ...alerts,
  ];
}
