import type { Logger } from 'pino';
import { createApp } from '../api/app.js';
import { metricsApp } from '../api/metrics.js';
import { type ApiServer, listen } from '../api/server.js';
import { steps } from '../activities/steps/index.js';
import { type Config, effectiveConfiguration, packageVersion } from '../config.js';
import { serveDashboard } from '../dashboard/serve-dashboard.js';
import { disconnect } from '../db/connect.js';
import { createServices } from '../service/services.js';
import { createListenHub } from './listen-hub.js';
import { startMetrics } from './metrics.js';
import { databaseUrl, lazyClient, openDatabase, templateDirectories } from './parts.js';
import { markReady } from './process-file.js';
import { runMain, StartFault } from './run-main.js';
import { startProbe } from './sample-machine.js';
import { watchTemplates } from './watch-templates.js';

/** How long a request waits for Temporal before the outbox gets the work. */
const temporalTimeoutMs = 3_000;
export const defaultApiPort = 8080;

/** `orchestra api`: HTTP only; any number of them answer alike. */
export async function runApi(): Promise<void> {
  await runMain('api', async ({ config, log, stopping }) => {
    const sql = await openDatabase(config, 'api', log, stopping);
    const temporal = lazyClient(config);
    const version = packageVersion();
    const templates = await watchTemplates(templateDirectories(config), steps, log);
    const deployment = {
      numCtx: config.models.numCtx,
      allowedRegistries: config.models.registries,
      timeoutSecondsMax: config.timeoutSecondsMax,
      ...config.attempts,
      gitSchemes: config.git.allowedSchemes,
      mayPull: config.models.allowPull,
      aliases: config.models.aliases,
      profiles: config.models.profiles,
    };
    const hub = createListenHub(databaseUrl(config), ['events', 'line', 'residency'], log);
    const metrics = startMetrics(sql, log);
    const services = createServices({
      sql,
      temporal: temporal.client,
      log,
      meter: metrics.buffer,
      config: { priorityLevels: config.temporal.priorityLevels, temporalTimeoutMs, queueMax: config.queue.tasksMax, version },
      catalogue: () => templates.current(),
      steps,
      deployment,
      flushMetrics: metrics.buffer.flush,
      configuration: effectiveConfiguration(config),
      events: { ...config.events, listen: (onNotify) => hub.listen('events', onNotify) },
      listenChanges: (channel, onNotify) => hub.listen(channel, onNotify),
    });
    await services.ensureAdminKey(config.home);
    const app = createApp({
      services,
      log,
      meter: metrics.buffer,
      config: {
        apiKeyHeader: config.security.apiKeyHeader,
        bodyBytesMax: config.api.bodyLimitBytes,
        requestTimeoutMs: config.api.requestTimeoutMs,
        allowedHosts: config.api.allowedHosts,
        publicDocs: config.api.publicDocs,
        publicMetrics: config.monitoring.publicMetrics,
        temporalUi: config.temporal.uiAddress,
        temporalNamespace: config.temporal.namespace,
        version,
      },
    });
    serveDashboard(app);
    const port = config.api.port ?? defaultApiPort;
    const server = await listen(app, { hostname: config.api.host, port, log }).catch((error: NodeJS.ErrnoException) => {
      throw error.code === 'EADDRINUSE' ? new StartFault(`Port ${port} is taken: set PORT to another one, or to 0 for any free one.`) : error;
    });
    const scraped = await listenForMetrics(config, services.metrics, log);
    const probe = startProbe(sql, 'api', async () => (await app.request('/readyz')).ok, log);
    if (config.underUp) await markReady(config.home, 'api', server.port);
    log.info({ host: config.api.host, port: server.port, metrics_port: scraped?.port ?? null }, 'the API serves');
    return {
      async drain() {
        await services.endStreams();
        await server.close(Math.min(8_000, config.shutdown.graceMs));
      },
      async stop() {
        await probe.stop();
        await services.endStreams();
        await server.close(0);
        await scraped?.close(0);
        await services.settled();
        await metrics.stop();
        await templates.stop();
        await hub.close();
        await temporal.close();
        await disconnect(sql);
      },
    };
  });
}

/** The metrics alone, on their own port. Nobody asked for the default one, so that a second API on this machine does without. */
async function listenForMetrics(config: Config, text: () => Promise<string>, log: Logger): Promise<ApiServer | null> {
  const { port, portGivesWay } = config.monitoring;
  if (port === null) return null;
  return listen(metricsApp(text, config.api.allowedHosts), { hostname: config.api.host, port, log }).catch((error: NodeJS.ErrnoException) => {
    if (error.code !== 'EADDRINUSE') throw error;
    if (!portGivesWay) throw new StartFault(`Port ${port} is taken: set METRICS_PORT to another one, to 0 for any free one, or to off.`);
    log.warn({ port }, 'the port of the metrics is taken, and /metrics of the API alone answers; METRICS_PORT sets another one');
    return null;
  });
}
