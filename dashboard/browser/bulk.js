// Many tasks at once: a dry run tells how many, the reader is asked, and the answer says what became of them.
(() => {
  const { ask, call, tell, soon, problemText } = window.orchestra;
  /** Tasks of one request. */
  const atOnce = 500;

  /** @param {number} count */
  const tasks = (count) => (count === 1 ? '1 task' : `${count} tasks`);

  /** @param {BulkChange} change @param {number} count */
  function questionOf({ action, priority }, count) {
    const them = count === 1 ? 'it' : 'them';
    if (action === 'cancel') return { question: `Stop ${tasks(count)}?`, yes: count === 1 ? 'Stop the task' : `Stop ${tasks(count)}`, no: `Keep ${them}` };
    if (action === 'retry') return { question: `Retry ${tasks(count)}?`, yes: `Retry ${tasks(count)}`, no: `Leave ${them}` };
    return { question: `Give ${tasks(count)} the priority ${priority}?`, yes: `Set priority ${priority}`, no: `Leave ${them}` };
  }

  /** What became of the tasks, in one sentence. @param {Map<string, number>} outcomes @param {number | undefined} priority */
  function outcomeText(outcomes, priority) {
    const of = (/** @type {string} */ name) => outcomes.get(name) ?? 0;
    const left = [...outcomes].reduce((sum, [name, count]) => (['cancelled', 'stopping', 'retried', 'changed'].includes(name) ? sum : sum + count), 0);
    const parts = [
      of('cancelled') > 0 ? `${tasks(of('cancelled'))} cancelled` : '',
      of('stopping') > 0 ? `${tasks(of('stopping'))} being stopped` : '',
      of('retried') > 0 ? `${tasks(of('retried'))} retried` : '',
      of('changed') > 0 ? `${tasks(of('changed'))} set to priority ${priority}` : '',
      left > 0 ? `${tasks(left)} left as before` : '',
    ].filter(Boolean);
    return `${parts.join(', ')}.`;
  }

  /** The requests that ask for it, one after the other. @param {BulkChange} change */
  function chunksOf({ which }) {
    if (!('ids' in which)) return [];
    return Array.from({ length: Math.ceil(which.ids.length / atOnce) }, (_, index) => ({ ids: which.ids.slice(index * atOnce, (index + 1) * atOnce) }));
  }

  /** How many tasks it would change; null where that was refused, which is told. @param {BulkChange} change */
  async function countOf(change) {
    const { action, which, priority } = change;
    const dry = { action, ...(priority === undefined ? {} : { priority }), dry_run: true };
    let count = 0;
    for (const part of 'filter' in which ? [{ filter: which.filter, limit: 1 }] : chunksOf(change)) {
      const ran = await call('POST', '/api/v1/tasks/bulk', { ...dry, ...part });
      if (!ran.ok) {
        tell(problemText(ran.body), 'problem');
        return null;
      }
      count += 'filter' in which ? ran.body.matched : ran.body.changed;
    }
    return count;
  }

  /**
   * Asks what an action would do, asks the reader, and does it.
   * @param {HTMLButtonElement} button shows how far it is
   * @param {BulkChange} change
   * @returns {Promise<boolean>} whether it was done
   */
  async function perform(button, change) {
    const { action, which, priority, note, asks = true } = change;
    const count = await countOf(change);
    if (count === null) return false;
    if (count === 0) {
      tell('There is nothing left to do.', 'done');
      return true;
    }
    if (asks && !(await ask({ ...questionOf(change, count), note }))) return false;
    const label = button.textContent;
    /** @type {Map<string, number>} */
    const outcomes = new Map();
    const wanted = { action, ...(priority === undefined ? {} : { priority }) };
    let done = 0;
    const parts = chunksOf(change);
    // What fails again meanwhile fits the filter too, so no more are asked for than were told.
    while ('filter' in which ? done < count : parts.length > 0) {
      const part = 'filter' in which ? { filter: which.filter, limit: Math.min(atOnce, count - done) } : parts.shift();
      const answer = await call('POST', '/api/v1/tasks/bulk', { ...wanted, ...part });
      if (!answer.ok) {
        tell(problemText(answer.body), 'problem');
        break;
      }
      done += answer.body.changed;
      for (const { outcome } of answer.body.items) outcomes.set(outcome, (outcomes.get(outcome) ?? 0) + 1);
      button.textContent = `${done} of ${count}…`;
      if ('filter' in which && (answer.body.remaining === 0 || answer.body.changed === 0)) break;
    }
    button.textContent = label;
    if (outcomes.size > 0) tell(outcomeText(outcomes, priority), 'done');
    return outcomes.size > 0;
  }

  /** While a question is open or its answer under way, the page is not drawn anew. @param {HTMLButtonElement} button @param {() => Promise<unknown>} act */
  async function alone(button, act) {
    button.disabled = true;
    document.body.dataset['busy'] = '';
    try {
      await act();
    } finally {
      delete document.body.dataset['busy'];
      button.disabled = false;
      soon();
    }
  }

  window.orchestraBulk = { perform, alone };
})();
