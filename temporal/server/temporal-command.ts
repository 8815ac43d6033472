import { join } from 'node:path';

/**
 * What the design needs a Temporal server to do differently from its defaults, by dynamic configuration key.
 * The compose file's server gets the same values from temporal/dynamicconfig/orchestra.yaml; a test compares the two.
 */
export const temporalDynamicConfig: Readonly<Record<string, boolean | number>> = {
  // Without it, a worker that stops under backlog takes tasks with it that nobody runs until their heartbeat time-out.
  'frontend.enableCancelWorkerPollsOnShutdown': true,
  // One key per two exact priorities; 60 is the most that the server takes.
  'matching.priorityLevels': 60,
  // Priority is kept inside a partition only.
  'matching.numTaskqueueReadPartitions': 1,
  'matching.numTaskqueueWritePartitions': 1,
  // The default of 20 a second makes every hop of a quiet server wait up to 50 ms.
  'history.transferProcessorMaxPollRPS': 5000,
  'history.timerProcessorMaxPollRPS': 5000,
  'history.visibilityProcessorMaxPollRPS': 5000,
};

/** `matching.priorityLevels` of a server that we start. One that we only know the address of has 5 unless the configuration says otherwise. */
export const ownPriorityLevels = 60;

/** A program to start: never a shell string. */
export interface ServerCommand {
  readonly file: string;
  readonly args: readonly string[];
}

export interface TemporalCommandOptions {
  /** the `temporal` executable; absolute */
  readonly binary: string;
  /** directory of the server's file; null: everything is in memory and gone with the process */
  readonly directory: string | null;
  readonly port: number;
  /** null: no Web UI */
  readonly uiPort: number | null;
  readonly namespaces: readonly string[];
  readonly logLevel?: 'debug' | 'info' | 'warn' | 'error';
}

/** The file a server keeps its runs in. */
export function temporalFile(directory: string): string {
  return join(directory, 'temporal.db');
}

/** How a development server is started: on loopback, since its HTTP API asks nobody who they are. */
export function temporalCommand(options: TemporalCommandOptions): ServerCommand {
  const { binary, directory, port, uiPort, namespaces, logLevel = 'warn' } = options;
  return {
    file: binary,
    args: [
      ...['server', 'start-dev', '--ip', '127.0.0.1', '--port', String(port)],
      ...(uiPort === null ? ['--headless'] : ['--ui-ip', '127.0.0.1', '--ui-port', String(uiPort)]),
      // WAL is two to three times as fast as the default; `full` survives a power cut.
      ...(directory === null ? [] : ['--db-filename', temporalFile(directory), '--sqlite-pragma', 'journal_mode=wal', '--sqlite-pragma', 'synchronous=full']),
      ...namespaces.flatMap((namespace) => ['--namespace', namespace]),
      ...Object.entries(temporalDynamicConfig).flatMap(([key, value]) => ['--dynamic-config-value', `${key}=${JSON.stringify(value)}`]),
      ...['--log-level', logLevel],
    ],
  };
}
