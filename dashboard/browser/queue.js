// The queue: rows are dragged, or moved by the arrow keys; several are selected and changed at once.
(() => {
  const { call, tell, soon, problemText } = window.orchestra;

  /** While somebody drags or waits for an answer, the page is not drawn anew. @param {boolean} is */
  function busy(is) {
    if (is) document.body.dataset['busy'] = '';
    else delete document.body.dataset['busy'];
  }

  const table = () => /** @type {HTMLElement | null} */ (document.getElementById('queue'));
  /** @param {Element | null | undefined} row */
  const taskOf = (row) => (row instanceof HTMLElement ? row.dataset['task'] : undefined);

  /** Rows of one task move together, so its neighbours are the next rows of other tasks. @param {HTMLElement} row */
  function neighbour(row) {
    const own = taskOf(row);
    for (let next = row.nextElementSibling; next !== null; next = next.nextElementSibling) {
      const task = taskOf(next);
      if (task !== undefined && task !== own) return { before: task };
    }
    for (let previous = row.previousElementSibling; previous !== null; previous = previous.previousElementSibling) {
      const task = taskOf(previous);
      if (task !== undefined && task !== own) return { after: task };
    }
    return null;
  }

  /**
   * Asks for the place at which a row stands on the screen now; a refused move goes back, with the reason.
   * @param {HTMLElement} row
   * @param {() => void} putBack
   */
  async function moveTo(row, putBack) {
    const place = neighbour(row);
    if (place === null) return;
    busy(true);
    const version = Number(table()?.dataset['version']);
    const answer = await call('POST', '/api/v1/queue/reorder', { task_id: taskOf(row), ...place, version });
    busy(false);
    if (answer.ok) {
      row.classList.add('moved');
      tell('Moved.', 'done');
    } else {
      putBack();
      tell(problemText(answer.body), 'problem');
    }
    soon();
  }

  /** How long a dragged row stays where it is before it is asked what that would do, in milliseconds. */
  const dwellMs = 250;
  let asking = 0;
  let question = 0;

  /** While a row is dragged: shows what its place would do to the starts of the others. @param {HTMLElement} row */
  function previewSoon(row) {
    window.clearTimeout(asking);
    forgetPreview();
    asking = window.setTimeout(async () => {
      const place = neighbour(row);
      if (place === null) return;
      const asked = question;
      const answer = await call('POST', '/api/v1/queue/reorder/preview', { task_id: taskOf(row), ...place });
      if (asked !== question) return; // it was dropped, or dragged on
      if (!answer.ok) return tell(problemText(answer.body), 'problem');
      const { later, sooner, items } = answer.body;
      for (const { task_id: task, step, start_before: before, start_after: after } of items) {
        const cell = document.getElementById(`wait-${task}-${step}`)?.querySelector('.starts');
        if (!cell) continue;
        const seconds = Math.round((Date.parse(after) - Date.parse(before)) / 1_000);
        const note = document.createElement('div');
        note.className = `preview ${seconds > 0 ? 'later' : 'sooner'}`;
        note.textContent = `${seconds > 0 ? '+' : '−'}${span(Math.abs(seconds))}`;
        cell.append(note);
      }
      const told = document.getElementById('preview');
      if (told !== null) told.textContent = later + sooner === 0 ? 'No start changes.' : `Dropped here, ${sooner} start sooner and ${later} later.`;
    }, dwellMs);
  }

  function forgetPreview() {
    question += 1;
    window.clearTimeout(asking);
    for (const note of document.querySelectorAll('.preview')) note.remove();
    const told = document.getElementById('preview');
    if (told !== null) told.textContent = '';
  }

  /** @param {number} seconds */
  function span(seconds) {
    if (seconds < 60) return `${seconds} s`;
    if (seconds < 3_600) return `${Math.round(seconds / 60)} min`;
    return `${(seconds / 3_600).toFixed(1)} h`;
  }

  /**
   * @param {HTMLElement} row
   * @param {'up' | 'down' | 'top'} direction
   */
  function step(row, direction) {
    const body = row.parentElement;
    const origin = row.nextSibling;
    if (body === null) return;
    if (direction === 'top') body.prepend(row);
    else if (direction === 'up') row.previousElementSibling?.before(row);
    else row.nextElementSibling?.after(row);
    if (row.nextSibling === origin) return;
    const grip = /** @type {HTMLElement | null} */ (row.querySelector('.grip'));
    if (direction !== 'top') grip?.focus();
    void moveTo(row, () => body.insertBefore(row, origin));
  }

  function makeSortable() {
    const body = table()?.querySelector('tbody');
    if (!body || body.dataset['sortable'] !== undefined) return;
    body.dataset['sortable'] = '';
    /** @type {ChildNode | null} */
    let origin = null;
    window.Sortable.create(body, {
      handle: '.grip',
      draggable: 'tr',
      animation: 120,
      onStart: (/** @type {{ item: HTMLElement }} */ { item }) => {
        busy(true);
        origin = item.nextSibling;
      },
      onChange: (/** @type {{ item: HTMLElement }} */ { item }) => previewSoon(item),
      onEnd: (/** @type {{ item: HTMLElement, oldIndex: number, newIndex: number }} */ { item, oldIndex, newIndex }) => {
        busy(false);
        forgetPreview();
        const was = origin;
        if (oldIndex !== newIndex) void moveTo(item, () => body.insertBefore(item, was));
      },
    });
  }

  // From the touch on, so that no row is drawn anew under the finger; a drag ends in `onEnd`.
  document.addEventListener('pointerdown', (event) => {
    if (event.target instanceof Element && event.target.closest('.grip')) busy(true);
  });
  document.addEventListener('pointerup', () => busy(false));

  document.addEventListener('keydown', (event) => {
    const grip = event.target instanceof Element ? event.target.closest('.grip') : null;
    const row = grip?.closest('tr');
    if (!(row instanceof HTMLElement) || (event.key !== 'ArrowUp' && event.key !== 'ArrowDown')) return;
    event.preventDefault();
    step(row, event.key === 'ArrowUp' ? 'up' : 'down');
  });

  const boxes = () => /** @type {HTMLInputElement[]} */ ([...document.querySelectorAll('#queue input[name="task"]')]);
  const chosen = () => [
    ...new Set(
      boxes()
        .filter(({ checked }) => checked)
        .map(({ value }) => value),
    ),
  ];

  function showSelection() {
    const bar = document.getElementById('selection');
    if (bar === null) return;
    const count = chosen().length;
    bar.hidden = count === 0;
    const told = bar.querySelector('[data-selected]');
    if (told !== null) told.textContent = String(count);
  }

  document.addEventListener('change', (event) => {
    if (!(event.target instanceof HTMLInputElement)) return;
    if (event.target.id === 'all') for (const box of boxes()) box.checked = event.target.checked;
    showSelection();
  });

  document.addEventListener('click', async (event) => {
    const target = event.target instanceof Element ? event.target : null;
    const top = target?.closest('[data-top]');
    const row = top?.closest('tr');
    if (row instanceof HTMLElement) return step(row, 'top');
    if (target?.closest('[data-unselect]')) {
      for (const box of boxes()) box.checked = false;
      return showSelection();
    }
    const bulk = target?.closest('[data-bulk]');
    if (!(bulk instanceof HTMLButtonElement)) return;
    const action = bulk.dataset['bulk'];
    const ids = chosen();
    if (action === 'cancel' && !window.confirm(`Cancel ${ids.length === 1 ? '1 task' : `${ids.length} tasks`}?`)) return;
    const form = bulk.closest('form');
    const priority = Number(form === null ? 5 : new FormData(form).get('priority'));
    bulk.disabled = true;
    const answer = await call('POST', '/api/v1/tasks/bulk', { action, ids, ...(action === 'priority' ? { priority } : {}) });
    bulk.disabled = false;
    if (answer.ok) {
      const { changed, skipped } = answer.body;
      tell(`${changed} changed${skipped > 0 ? `, ${skipped} left as they are` : ''}.`, 'done');
      for (const box of boxes()) box.checked = false;
    } else {
      tell(problemText(answer.body), 'problem');
    }
    showSelection();
    soon();
  });

  document.addEventListener('htmx:after:swap', () => {
    makeSortable();
    showSelection();
  });
  makeSortable();
})();
