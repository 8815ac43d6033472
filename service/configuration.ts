import { randomBytes, scryptSync } from 'node:crypto';
import { isDeepStrictEqual } from 'node:util';
import type { ConfigurationView } from '../contract/schemas/configuration.js';
import { type AuditEntry, keepConfiguration, type KeptSetting, type KeptSettings } from '../db/audit.js';
import type { Sql } from '../db/connect.js';

/** A key of the configuration with the value that is in force. */
export interface EffectiveSetting {
  readonly key: string;
  /** what may be shown of the value; null: it is not set */
  readonly shown: unknown;
  /** the value itself where `shown` hides something, else null */
  readonly hidden: string | null;
  readonly default: unknown;
  readonly origin: ConfigurationView['items'][number]['origin'];
  readonly variable: string | null;
  readonly inForce: boolean;
}

export interface EffectiveConfiguration {
  readonly environment: string;
  readonly settings: readonly EffectiveSetting[];
}

/** The configuration of this process as administrators see it. */
export function configurationView({ environment, settings }: EffectiveConfiguration): ConfigurationView {
  return {
    environment,
    file: `config/${environment}.yaml`,
    items: settings.map(({ key, shown, default: preset, origin, variable, inForce }) => ({
      key,
      value: shown ?? null,
      default: preset ?? null,
      origin,
      variable,
      in_force: inForce,
    })),
  };
}

/**
 * Keeps with which configuration a main starts, and writes `configuration_changed` into the audit log when it is another one than at its last start.
 * The first start has nothing to compare with.
 * @param main such as `api`
 * @returns the keys that have changed
 */
export async function noteConfiguration(sql: Sql, main: string, { environment, settings }: EffectiveConfiguration): Promise<readonly string[]> {
  const presets = new Map(settings.map(({ key, default: preset }) => [key, preset ?? null]));
  const keep = (salt: Buffer): KeptSettings => Object.fromEntries(settings.map((setting) => [setting.key, keptOf(setting, salt)]));
  const changes = (before: KeptSettings, now: KeptSettings): AuditEntry | null => {
    const changed = changedKeys(before, now, presets);
    if (changed.length === 0) return null;
    const of = (kept: KeptSetting | undefined) => (kept?.provided ? 'set by `orchestra up`' : (kept?.value ?? null));
    return {
      action: 'configuration_changed',
      userId: null,
      details: { main, environment, changes: changed.map((key) => ({ key, from: key in before ? of(before[key]) : presets.get(key), to: of(now[key]) })) },
    };
  };
  const entry = await keepConfiguration(sql, main, randomBytes(16), keep, changes);
  return entry === null ? [] : (entry.details as { changes: { key: string }[] }).changes.map(({ key }) => key);
}

/** Keys whose values differ; one that an older release did not know counts only with another value than its default. */
export function changedKeys(before: KeptSettings, now: KeptSettings, presets: ReadonlyMap<string, unknown>): string[] {
  return Object.entries(now)
    .filter(([key, setting]) => {
      const old = before[key];
      if (old === undefined)
        return setting.provided !== true && (setting.hash !== undefined || !isDeepStrictEqual(plain(setting.value), plain(presets.get(key))));
      if (old.provided || setting.provided) return old.provided !== setting.provided;
      return old.hash !== setting.hash || !isDeepStrictEqual(old.value, plain(setting.value));
    })
    .map(([key]) => key);
}

/** As JSON brings it back; no text and no value are the same. */
function plain(value: unknown): unknown {
  return value === '' || value === undefined ? null : JSON.parse(JSON.stringify(value));
}

function keptOf({ shown, hidden, origin }: EffectiveSetting, salt: Buffer): KeptSetting {
  if (origin === 'provided') return { value: null, provided: true };
  // Slow on purpose: a short password shall not be found from its hash.
  return { value: plain(shown), ...(hidden === null ? {} : { hash: scryptSync(hidden, salt, 16).toString('hex') }) };
}
