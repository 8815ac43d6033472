import type { JsonValue } from '../contract/json.js';
import type { TaskView } from '../contract/schemas/task.js';

type Submitted = Pick<TaskView, 'template' | 'parameters' | 'priority' | 'name' | 'metadata'>;

/** Longer arguments than this go through standard input: a system takes 128 KiB in one. */
const argumentCharsMax = 8_000;

/**
 * A command for a shell that submits the same task with curl. The key comes from the environment, so that it stands in no history.
 * @param origin of the API, without a slash at its end
 */
export function curlOf(task: Submitted, { origin, apiKeyHeader }: { readonly origin: string; readonly apiKeyHeader: string }): string {
  const body = JSON.stringify({
    template: task.template,
    parameters: task.parameters,
    priority: task.priority,
    ...(named(task) ? { name: task.name } : {}),
    ...(Object.keys(task.metadata).length === 0 ? {} : { metadata: task.metadata }),
  });
  const command = `curl -sS ${shellWord(`${origin}/api/v1/tasks`)} -H "${apiKeyHeader}: $ORCHESTRA_KEY" -H 'Content-Type: application/json'`;
  return body.length > argumentCharsMax ? `${command} --data-binary @- ${hereDocument(body)}` : `${command} --data-raw ${shellWord(body)}`;
}

/** A command for a shell that submits the same task with the command line of the product. */
export function commandOf(task: Submitted): string {
  const options = [`--priority ${task.priority}`, ...(named(task) ? [`--name=${shellWord(task.name)}`] : [])].join(' ');
  const pairs = Object.entries(task.parameters).map(([name, value]) => `-p ${shellWord(pairOf(name, value))}`);
  const command = `orchestra submit ${shellWord(task.template)}`;
  const short = [command, ...pairs, options].join(' ');
  return short.length > argumentCharsMax ? `${command} ${options} --params - ${hereDocument(JSON.stringify(task.parameters))}` : short;
}

/** A task that nobody named is called as its template. */
const named = ({ name, template }: Submitted) => name !== template;

/** As `orchestra submit -p` reads it: a text as it is, with a leading `@` doubled; anything else as JSON. */
function pairOf(name: string, value: JsonValue): string {
  if (typeof value !== 'string') return `${name}:=${JSON.stringify(value)}`;
  return `${name}=${value.startsWith('@') ? '@' : ''}${value}`;
}

/** A text as one word of a POSIX shell. */
function shellWord(text: string): string {
  return /^[A-Za-z0-9_./:=,+-]+$/.test(text) ? text : `'${text.replaceAll("'", `'\\''`)}'`;
}

/** JSON has no line breaks of its own, so that nothing in it can end the document. */
const hereDocument = (json: string) => `<<'JSON'\n${json}\nJSON`;
