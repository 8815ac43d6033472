import { parseModelName } from './model-name.js';

/** What a short name of the configuration stands for. */
export interface AliasedModel {
  /** normalised */
  readonly name: string;
  /** `sha256:<64 hex>`, when the alias pins its model */
  readonly digest: string | null;
}

/** An alias looks like no path and no tag, so that it is told from a name at a glance. */
export const aliasForm = /^[A-Za-z][A-Za-z0-9_-]{0,62}$/;

/** Longest chain of aliases that is followed. */
const chainMax = 16;

/**
 * Follows every alias to its model.
 * @param aliases what each stands for: a model, with or without a pin, or another alias
 * @returns the models, and a sentence for each alias that leads nowhere, in a circle, or to a name that the registries forbid
 */
export function resolveAliases(
  aliases: Readonly<Record<string, string>>,
  registries: readonly string[],
): { readonly models: ReadonlyMap<string, AliasedModel>; readonly faults: readonly { readonly alias: string; readonly text: string }[] } {
  const models = new Map<string, AliasedModel>();
  const faults: { alias: string; text: string }[] = [];
  for (const alias of Object.keys(aliases)) {
    const chain = [alias];
    let target = aliases[alias] ?? '';
    while (Object.hasOwn(aliases, target) && chain.length <= chainMax && !chain.includes(target)) {
      chain.push(target);
      target = aliases[target] ?? '';
    }
    if (chain.includes(target)) faults.push({ alias, text: `leads in a circle: ${[...chain, target].join(' -> ')}` });
    else {
      const parsed = parseModelName(target, registries);
      if ('problem' in parsed) faults.push({ alias, text: parsed.problem });
      else models.set(alias, { name: parsed.name, digest: parsed.digest });
    }
  }
  return { models, faults };
}
