import { resolve } from 'node:path';

/** What the command line takes from the environment; nothing else of cli/ reads it. */
export interface Surroundings {
  /** ORCHESTRA_API: address of the API */
  readonly api: string | undefined;
  /** ORCHESTRA_KEY: an API key */
  readonly key: string | undefined;
  /** ORCHESTRA_HOME, absolute; default `.orchestra` in the present folder */
  readonly home: string;
  /** NO_COLOR (https://no-color.org) is not set, and the terminal can */
  readonly color: boolean;
}

export function readSurroundings(env: NodeJS.ProcessEnv = process.env): Surroundings {
  return {
    api: env['ORCHESTRA_API'] || undefined,
    key: env['ORCHESTRA_KEY']?.trim() || undefined,
    home: resolve(env['ORCHESTRA_HOME'] || '.orchestra'),
    color: !env['NO_COLOR'] && env['TERM'] !== 'dumb',
  };
}
