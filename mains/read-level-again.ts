import type { Logger } from 'pino';
import type { Config } from '../config.js';
import { pinoLevel } from '../logging.js';

/** Puts `logging.level` in force, the one key that needs no new start; with a configuration at fault it stays as it is, and the log says why. */
export function readLevelAgain(log: Logger, load: () => Pick<Config, 'logging'>): void {
  try {
    const { level } = load().logging;
    log.level = pinoLevel(level);
    log.info({ level }, 'logging.level was read again');
  } catch (error) {
    log.error({ err: error }, 'logging.level stays as it is');
  }
}
