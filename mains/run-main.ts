import type { Logger } from 'pino';
import { type Config, ConfigFault, loadConfig, noticesOf } from '../config.js';
import { isConnectionError } from '../db/connect.js';
import { createLogger } from '../logging.js';
import { clearReady } from './process-file.js';
import { readLevelAgain } from './read-level-again.js';

/** A main that serves. */
export interface Serving {
  /** rejects when it cannot go on; resolves when it was stopped */
  readonly ended?: Promise<void>;
  /** Takes nothing new, and resolves when what runs has ended or when `signal` aborts. */
  drain(signal: AbortSignal): Promise<void>;
  /** Ends everything; what still runs goes back to the line. */
  stop(): Promise<void>;
  /** after the drain `stop` may take this long before the process ends anyway; default 15 s */
  readonly stopTimeoutMs?: number;
}

/** One sentence for the person who started us, and what the process ends with. */
export class StartFault extends Error {
  override readonly name = 'StartFault';
}

export interface MainContext {
  readonly config: Config;
  readonly log: Logger;
  /** aborts when the process is asked to end, which may be while it still starts */
  readonly stopping: AbortSignal;
  /** Sets what is done before the process ends when it is asked to end a second time. */
  onCut(cut: () => Promise<void>): void;
}

/** 0: ended as asked; 1: could not start or go on; 2: the configuration is at fault; 130: cut. */
const exitCodes = { ended: 0, fault: 1, configuration: 2, cut: 130 } as const;

const defaultStopTimeoutMs = 15_000;

/**
 * Runs a main as this process: configuration, logging, signals. The first SIGTERM or SIGINT drains for `shutdown.grace_seconds`,
 * stops and exits with 0; the second cuts.
 */
export async function runMain(name: string, start: (context: MainContext) => Promise<Serving>): Promise<void> {
  const stopping = new AbortController();
  let cut: () => Promise<void> = async () => {};
  let config: Config;
  try {
    config = loadConfig();
  } catch (error) {
    if (!(error instanceof ConfigFault)) throw error;
    process.stderr.write(`${error.message}\n`);
    process.exit(exitCodes.configuration);
  }
  const log = createLogger(config.logging, name);
  for (const event of ['uncaughtException', 'unhandledRejection'] as const) {
    process.on(event, (error: unknown) => {
      // postgres.js asks for types of its own on each new connection, and nobody hears when that connection is lost meanwhile; whoever wanted it is told apart.
      if (event === 'unhandledRejection' && isConnectionError(error)) {
        log.warn({ err: error }, 'a connection was lost while it was made');
        return;
      }
      log.fatal({ err: error }, 'this process cannot go on');
      process.exit(exitCodes.fault);
    });
  }
  if (!config.underUp) {
    for (const { keys, message } of noticesOf(config.settings)) log.warn({ keys }, message);
    // `orchestra up` and what it starts end with their terminal, as before.
    if (name !== 'up') process.on('SIGHUP', () => readLevelAgain(log, loadConfig));
  }
  for (const signal of ['SIGTERM', 'SIGINT'] as const) {
    process.on(signal, () => {
      if (stopping.signal.aborted) {
        log.warn({ signal }, 'asked to end again: cut');
        void cut().finally(() => process.exit(exitCodes.cut));
        return;
      }
      log.info({ signal, graceMs: config.shutdown.graceMs }, 'asked to end: draining');
      stopping.abort();
    });
  }

  let serving: Serving;
  try {
    if (config.underUp) await clearReady(config.home, name);
    serving = await start({
      config,
      log,
      stopping: stopping.signal,
      onCut: (act) => {
        cut = act;
      },
    });
  } catch (error) {
    if (stopping.signal.aborted) process.exit(exitCodes.ended);
    log.debug({ err: error }, 'start failed');
    process.stderr.write(`orchestra ${name}: ${error instanceof Error ? error.message : String(error)}\n`);
    process.exit(exitCodes.fault);
  }

  const asked = new Promise<'asked'>((resolve) => {
    if (stopping.signal.aborted) resolve('asked');
    stopping.signal.addEventListener('abort', () => resolve('asked'));
  });
  const ended = serving.ended?.then(
    () => 'ended' as const,
    (error: unknown) => {
      log.fatal({ err: error }, 'this process cannot go on');
      return 'failed' as const;
    },
  );
  const why = await Promise.race([asked, ...(ended === undefined ? [] : [ended])]);
  const late = setTimeout(
    () => {
      log.error('the end took too long: cut');
      process.exit(exitCodes.fault);
    },
    config.shutdown.graceMs + (serving.stopTimeoutMs ?? defaultStopTimeoutMs),
  );
  late.unref();
  try {
    if (why === 'asked') await serving.drain(AbortSignal.timeout(Math.max(1, config.shutdown.graceMs)));
    await serving.stop();
    if (config.underUp) await clearReady(config.home, name);
  } catch (error) {
    log.error({ err: error }, 'the end was not clean');
    process.exit(exitCodes.fault);
  }
  log.info('ended');
  process.exit(why === 'failed' ? exitCodes.fault : exitCodes.ended);
}
