import { readFile } from 'node:fs/promises';
import type { Logger } from 'pino';
import { connect, disconnect, type Sql } from '../db/connect.js';
import { apiKeyUseCases } from '../service/api-keys.js';
import { passwordChecks } from '../service/check-password.js';
import { sessionUseCases } from '../service/sessions.js';

/** Sees to it that the first administrator has a key. @returns path of its file */
export async function ensureAdminKey(database: string, home: string, log: Logger): Promise<string> {
  return briefly(database, (sql) => apiKeyUseCases({ sql, log }).ensureAdminKey(home));
}

/**
 * An address that signs a browser in as the first administrator, once; null when none can be made.
 * @param api address of the API
 */
export async function signInAddress(
  database: string,
  options: { readonly api: string; readonly keyFile: string; readonly minutes: number; readonly log: Logger },
): Promise<string | null> {
  const { api, keyFile, minutes, log } = options;
  try {
    return await briefly(database, async (sql) => {
      const keys = apiKeyUseCases({ sql, log });
      const caller = await keys.verifyKey((await readFile(keyFile, 'utf8')).trim());
      if (caller === null) return null;
      const { ticket } = await sessionUseCases({ sql, log }, keys, passwordChecks({ sql, log })).createTicket(caller, { minutes });
      return `${api}/sign-in#ticket=${ticket}`;
    });
  } catch (error) {
    log.warn({ err: error }, 'no address to sign in with');
    return null;
  }
}

async function briefly<T>(database: string, work: (sql: Sql) => Promise<T>): Promise<T> {
  const sql = connect(database, { applicationName: 'orchestra-up', connectionsMax: 1 });
  try {
    return await work(sql);
  } finally {
    await disconnect(sql);
  }
}
