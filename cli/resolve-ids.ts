import type { Client } from '../client/client.js';
import type { TaskView } from '../contract/schemas/task.js';
import { parseTaskId } from '../contract/ids.js';
import { CliFailure, exitCodes, usageFault } from './failure.js';

/** Tasks among which a shortened id is looked for: the newest. */
const recentMax = 500;

/**
 * Full ids for what a person gives: an id, or its first 6 or more digits when they name one recent task.
 * @throws {CliFailure} 2 for what is no id or names several tasks, 3 when no recent task has it
 */
export async function resolveIds(client: Client, texts: readonly string[]): Promise<string[]> {
  let recent: readonly TaskView[] | undefined;
  const ids: string[] = [];
  for (const text of texts) {
    const full = parseTaskId(text);
    if (full !== undefined) {
      ids.push(full);
      continue;
    }
    if (!/^[0-9a-f][0-9a-f-]{5,35}$/i.test(text)) throw usageFault(`${text} is no id of a task: give the id, or at least its first 6 digits.`);
    recent ??= (await client.tasks.listPage({ limit: recentMax })).items;
    ids.push(matching(text.toLowerCase(), recent).id);
  }
  return ids;
}

export async function resolveId(client: Client, text: string): Promise<string> {
  return (await resolveIds(client, [text]))[0] as string;
}

function matching(prefix: string, tasks: readonly TaskView[]): TaskView {
  const found = tasks.filter(({ id }) => id.startsWith(prefix));
  const [first, second] = found;
  if (first === undefined)
    throw new CliFailure(
      exitCodes.notFound,
      `No task of the newest ${recentMax} begins with ${prefix}: give the whole id, which \`orchestra list --all\` shows.`,
    );
  if (second === undefined) return first;
  const candidates = found.slice(0, 10).map(({ id, status, name }) => `  ${id}  ${status}  ${name}`);
  throw usageFault([`${prefix} is the beginning of ${found.length} ids: give more digits.`, ...candidates].join('\n'));
}
