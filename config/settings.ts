import { type DeclaredKey, type KeyFacts } from './key.js';
import { declaredKeys } from './schema.js';

/** Who set a key. `provided`: `orchestra up`, for the processes it starts; nobody configured that. */
export type Origin = 'default' | 'file' | 'variable' | 'provided';

/** A key with the value it has. */
export interface Setting {
  /** such as `api.port` */
  readonly key: string;
  /** as it is in force, secrets included; undefined when it is not set and the program decides */
  readonly value: unknown;
  readonly default: unknown;
  readonly origin: Origin;
  /** environment variable that may set it */
  readonly variable: string | null;
  readonly secret: boolean;
  readonly notInForce: NonNullable<KeyFacts['notInForce']> | null;
}

/**
 * Every key with its value and who set it, in the order of the documentation.
 * @param values as the schema gave them
 * @param written whether the file has the key
 * @param environment which variable set a key
 * @param provided variables that `orchestra up` has set
 */
export function settingsOf(
  values: unknown,
  written: (path: readonly string[]) => boolean,
  environment: ReadonlyMap<string, string>,
  provided: ReadonlySet<string>,
): readonly Setting[] {
  return declaredKeys.map((declared: DeclaredKey) => {
    const name = declared.path.join('.');
    const variable = environment.get(name);
    const value = valueAt(values, declared.path);
    return {
      key: name,
      value,
      default: declared.default,
      origin: variable === undefined ? (written(declared.path) ? 'file' : 'default') : provided.has(variable) ? 'provided' : 'variable',
      variable: declared.variable ?? null,
      secret: declared.secret ?? false,
      notInForce: declared.inForceAs?.some((each) => each === value) ? null : (declared.notInForce ?? null),
    };
  });
}

/** The value below some names; undefined when there is none. */
export function valueAt(values: unknown, path: readonly string[]): unknown {
  return path.reduce((node, name) => (typeof node === 'object' && node !== null ? (node as Record<string, unknown>)[name] : undefined), values);
}

const hidden = '[redacted]';

/** The value as it may be shown: secrets hidden, also passwords within addresses; null when it is not set. */
export function shownValue({ value, secret }: Pick<Setting, 'value' | 'secret'>): unknown {
  if (value === undefined || value === null || value === '') return null;
  if (secret) return hidden;
  return typeof value === 'string' ? withoutPassword(value) : value;
}

/** An address without its password, wherever a driver would take one from. */
export function withoutPassword(address: string): string {
  return address
    .replace(/^([a-z][a-z0-9+.-]*:\/\/)([^/?#]*)@/i, (_whole, scheme: string, user: string) => {
      const colon = user.indexOf(':');
      return colon === -1 ? `${scheme}${user}@` : `${scheme}${user.slice(0, colon)}:${hidden}@`;
    })
    .replaceAll(/([?&][^=&#]*(?:password|secret|token|key)[^=&#]*=)[^&#]*/gi, `$1${hidden}`);
}

/** The settings as they may be shown, with what that hides apart. */
export function effectiveConfiguration({ environment, settings }: { readonly environment: string; readonly settings: readonly Setting[] }) {
  return {
    environment,
    settings: settings.map((setting) => {
      const shown = shownValue(setting);
      const text = typeof setting.value === 'string' ? setting.value : '';
      return {
        key: setting.key,
        shown,
        hidden: text !== '' && shown !== text ? text : null,
        default: setting.default,
        origin: setting.origin,
        variable: setting.variable,
        inForce: setting.notInForce === null,
      };
    }),
  };
}

/** A line of a start about what was set and has no effect. */
export interface Notice {
  readonly keys: readonly string[];
  readonly message: string;
}

const replacements: Readonly<Record<string, string>> = {
  'redis.host': 'temporal.address',
  'redis.port': 'temporal.address',
  'redis.password': 'temporal.api_key',
  'redis.db': 'temporal.namespace',
  'redis.max_connections': 'temporal.max_connections',
};

/** What somebody has set that is not in force. Keys are named, values are not. */
export function noticesOf(settings: readonly Setting[]): readonly Notice[] {
  const told = settings.filter(({ notInForce, origin, value, default: preset }) => {
    if (notInForce === null || origin === 'default') return false;
    return notInForce === 'told when set' ? value !== undefined && value !== '' : JSON.stringify(value) !== JSON.stringify(preset);
  });
  const redis = told.filter(({ key }) => key in replacements);
  const algorithm = told.filter(({ key }) => key === 'orchestration.scheduling.algorithm');
  const rest = told.filter((setting) => !redis.includes(setting) && !algorithm.includes(setting));
  const named = (of: readonly Setting[]) => of.map(({ key }) => key);
  return [
    ...(redis.length === 0
      ? []
      : [
          {
            keys: named(redis),
            message: `there is no Redis; Temporal and the cache take its place: ${named(redis)
              .map((key) => `${key} by ${replacements[key]}`)
              .join(', ')}; entries that are kept, by cache.max_entries and cache.ttl_seconds`,
          },
        ]),
    ...(algorithm.length === 0
      ? []
      : [
          {
            keys: named(algorithm),
            message: 'orchestration.scheduling.algorithm is reinforcement_learning, and there is no trained agent: priority_affinity orders the line',
          },
        ]),
    ...(rest.length === 0 ? [] : [{ keys: named(rest), message: `accepted, not in force yet: ${named(rest).join(', ')}` }]),
  ];
}
