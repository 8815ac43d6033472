// History and trends: all tasks of a filter, or of a group of errors, at once.
(() => {
  const { call, tell, problemText } = window.orchestra;
  const { perform, alone } = window.orchestraBulk;

  document.addEventListener('click', (event) => {
    const target = event.target instanceof Element ? event.target : null;
    const bulk = target?.closest('[data-bulk-action]');
    if (bulk instanceof HTMLButtonElement) {
      const { bulkAction, bulkFilter = '{}', bulkNote } = bulk.dataset;
      void alone(bulk, () =>
        perform(bulk, { action: bulkAction === 'cancel' ? 'cancel' : 'retry', which: { filter: JSON.parse(bulkFilter) }, note: bulkNote }),
      );
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
      const { groupNote = '' } = group.dataset;
      await perform(group, { action: 'retry', which: { ids }, note: count > ids.length ? `${groupNote} (the latest of ${count})` : groupNote });
    });
  });
})();
