import { declaredKeys } from './schema.js';

/** The table of every key for docs/configuration.md. */
export function configurationTable(): string {
  const rows = declaredKeys.map(({ path, default: preset, variable, means, notInForce, inForceAs, unset }) => {
    const value = preset === undefined || preset === '' ? (unset ?? 'not set') : `\`${shown(preset)}\``;
    const but = inForceAs === undefined ? '' : `, but for ${inForceAs.map((each) => `\`${each}\``).join(', ')}`;
    return `| \`${path.join('.')}\` | ${value} | ${variable === undefined ? '' : `\`${variable}\``} | ${means}${notInForce === undefined ? '' : ` (**not in force yet**${but})`} |`;
  });
  return ['| key | default | variable | meaning |', '|---|---|---|---|', ...rows].join('\n');
}

function shown(value: unknown): string {
  if (Array.isArray(value)) return `[${value.join(', ')}]`;
  return typeof value === 'object' ? JSON.stringify(value) : String(value);
}

const begin = '<!-- generated from config/schema.ts: npm run config-docs -->';
const end = '<!-- end of the generated table -->';

/** The page with the present table in place of the one it has. @throws when it has no marks around one */
export function withTable(page: string): string {
  const [before, after] = [page.indexOf(begin), page.indexOf(end)];
  if (before === -1 || after < before) throw new Error('the page has no marks around its table');
  return `${page.slice(0, before)}${begin}\n${configurationTable()}\n${page.slice(after)}`;
}
