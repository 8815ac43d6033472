// Commands for a shell that submit a task: what a form says, or what an earlier task was given. The key comes from the environment, so that it stands in no history.
(() => {
  /** Longer arguments than this go through standard input: a system takes 128 KiB in one. */
  const argumentCharsMax = 8_000;
  const fieldPools = /** @type {const} */ ({ cpu_cores: 'cpu', memory_gb: 'memory', disk_gb: 'disk', gpu_count: 'gpu' });

  /** A text as one word of a POSIX shell. @param {string} text */
  const shellWord = (text) => (/^[A-Za-z0-9_./:=,+-]+$/.test(text) ? text : `'${text.replaceAll("'", `'\\''`)}'`);

  /** JSON has no line breaks of its own, so that nothing in it can end the document. @param {unknown} value */
  const hereDocument = (value) => `<<'JSON'\n${JSON.stringify(value)}\nJSON`;

  /** As `orchestra submit -p` reads it: a text as it is, with a leading `@` doubled; anything else as JSON. @param {string} name @param {unknown} value */
  const pairOf = (name, value) => (typeof value === 'string' ? `${name}=${value.startsWith('@') ? '@' : ''}${value}` : `${name}:=${JSON.stringify(value)}`);

  /**
   * The request with curl.
   * @param {SubmitRequest} request
   * @param {{ origin: string, apiKeyHeader: string }} api `origin` without a slash at its end
   */
  function curlOf(request, { origin, apiKeyHeader }) {
    const command = `curl -sS ${shellWord(`${origin}/api/v1/tasks`)} -H "${apiKeyHeader}: $ORCHESTRA_KEY" -H 'Content-Type: application/json'`;
    const body = JSON.stringify(request, null, 2);
    return body.length > argumentCharsMax ? `${command} --data-binary @- ${hereDocument(request)}` : `${command} --data-raw ${shellWord(body)}`;
  }

  /**
   * The request with the command line of the product; null where that has no words for it.
   * @param {SubmitRequest} request
   * @param {string} origin as of `curlOf`
   */
  function commandOf(request, origin) {
    const { resource_requirements: needs = {}, retry = {}, parameters = {} } = request;
    if (request.limits !== undefined || Object.keys(retry).some((name) => name !== 'max_attempts')) return null;
    const amounts = [
      ...Object.entries(fieldPools).flatMap(([field, pool]) => (needs[field] === undefined ? [] : [[pool, needs[field]]])),
      ...Object.entries(needs['resources'] ?? {}),
    ];
    const options = [
      ...(request.priority === undefined ? [] : [`--priority ${request.priority}`]),
      ...(request.name === undefined ? [] : [`--name=${shellWord(request.name)}`]),
      ...(request.description === undefined ? [] : [`--description=${shellWord(request.description)}`]),
      ...(request.depends_on ?? []).map((id) => `--depends-on ${shellWord(id)}`),
      .../** @type {string[]} */ (needs['locks'] ?? []).map((lock) => `--lock ${shellWord(lock)}`),
      ...amounts.map(([pool, amount]) => `--needs ${shellWord(`${pool}=${amount}`)}`),
      ...(retry['max_attempts'] === undefined ? [] : [`--retry-attempts ${retry['max_attempts']}`]),
      ...(Object.keys(request.metadata ?? {}).length === 0 ? [] : [`--metadata=${shellWord(JSON.stringify(request.metadata))}`]),
      ...(request.agent_assigned === undefined ? [] : [`--agent=${shellWord(request.agent_assigned)}`]),
      '--wait',
    ];
    const command = `npx orchestra --api ${shellWord(origin)} submit ${shellWord(request.template)}`;
    const pairs = Object.entries(parameters).map(([name, value]) => `-p ${shellWord(pairOf(name, value))}`);
    const short = [command, ...pairs, ...options].join(' \\\n  ');
    return short.length > argumentCharsMax ? `${[command, ...options, '--params -'].join(' \\\n  ')} ${hereDocument(parameters)}` : short;
  }

  window.orchestraCommands = { curlOf, commandOf };
})();
