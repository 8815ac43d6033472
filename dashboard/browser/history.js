// History and trends: many tasks at once, after a dry run has told how many.
(() => {
  const { call, tell, soon, problemText } = window.orchestra;
  /** Tasks of one request. */
  const atOnce = 500;

  /** @param {number} count */
  const tasks = (count) => (count === 1 ? '1 task' : `${count} tasks`);

  /**
   * Asks what an action would do, asks the reader, and does it.
   * @param {HTMLButtonElement} button
   * @param {'retry' | 'cancel'} action
   * @param {{ filter: unknown } | { ids: readonly string[] }} which
   * @param {string} [note] for the question
   */
  async function change(button, action, which, note = '') {
    const ran = await call('POST', '/api/v1/tasks/bulk', { action, ...which, dry_run: true, ...('filter' in which ? { limit: 1 } : {}) });
    if (!ran.ok) return tell(problemText(ran.body), 'problem');
    const count = 'filter' in which ? ran.body.matched : ran.body.changed;
    if (count === 0) return tell('There is nothing left to do.', 'done');
    if (!window.confirm(`This ${action === 'retry' ? 'retries' : 'cancels'} ${tasks(count)}.${note}`)) return;
    const label = button.textContent;
    let done = 0;
    // What fails again meanwhile fits the filter too, so no more are asked for than were told.
    while (done < count) {
      const limit = Math.min(atOnce, count - done);
      const answer = await call('POST', '/api/v1/tasks/bulk', { action, ...which, ...('filter' in which ? { limit } : {}) });
      if (!answer.ok) {
        tell(problemText(answer.body), 'problem');
        break;
      }
      done += answer.body.changed;
      button.textContent = `${done} of ${count}…`;
      if (answer.body.remaining === 0 || answer.body.changed === 0) break;
    }
    button.textContent = label;
    if (done > 0) tell(`${tasks(done)} ${action === 'retry' ? 'retried' : 'cancelled'}.`, 'done');
  }

  /** While a question is open or its answer under way, the page is not drawn anew. @param {HTMLButtonElement} button @param {() => Promise<void>} act */
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

  document.addEventListener('click', (event) => {
    const target = event.target instanceof Element ? event.target : null;
    const bulk = target?.closest('[data-bulk-action]');
    if (bulk instanceof HTMLButtonElement) {
      const { bulkAction, bulkFilter = '{}' } = bulk.dataset;
      void alone(bulk, () => change(bulk, bulkAction === 'cancel' ? 'cancel' : 'retry', { filter: JSON.parse(bulkFilter) }));
      return;
    }
    const group = target?.closest('[data-group]');
    if (!(group instanceof HTMLButtonElement)) return;
    void alone(group, async () => {
      const found = await call('GET', `/api/v1/reports/errors?${group.dataset['group']}&ids=1000`);
      if (!found.ok) return tell(problemText(found.body), 'problem');
      const [errors] = found.body.items;
      if (errors === undefined) return tell('There is nothing left to do.', 'done');
      const { task_ids: ids, count } = errors;
      await change(group, 'retry', { ids }, count > ids.length ? ` They are the latest of ${count}.` : '');
    });
  });
})();
