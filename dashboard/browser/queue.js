// The queue: rows are dragged, or moved by the arrow keys; several are selected and changed at once.
(() => {
  const { call, tell, soon, problemText } = window.orchestra;
  const { perform, alone } = window.orchestraBulk;

  /** How long a row stays where it is before it is asked what that would do, in milliseconds. */
  const dwellMs = 250;
  /** A row that was lifted by the keyboard is dropped when no key was pressed for so long after its preview was shown. */
  const settleMs = 4_000;
  /** A preview that does not come holds up no drop for longer. */
  const patienceMs = 5_000;
  /** For how long it is told that a row is back. */
  const toldMs = 4_000;
  /** Entries that are asked for to find one to go before: those in front may be steps of the same task. */
  const frontEntries = 50;
  /** Entries of one request for the ids of all that fit. */
  const pageEntries = 500;

  const table = () => /** @type {HTMLElement | null} */ (document.getElementById('queue'));
  /** @param {Element | null | undefined} row */
  const taskOf = (row) => (row instanceof HTMLElement ? row.dataset['task'] : undefined);
  /** @param {HTMLElement} row */
  const gripOf = (row) => /** @type {HTMLElement | null} */ (row.querySelector('.grip'));

  // --- What keeps the page from being drawn anew ---

  let pressed = false;
  let dragged = false;
  let sending = 0;
  /** A row that the keyboard holds, and the one that it stood before. @type {{ row: HTMLElement, origin: Element | null, timer: number } | null} */
  let lifted = null;

  function showBusy() {
    if (pressed || dragged || sending > 0 || lifted !== null) document.body.dataset['busy'] = '';
    else delete document.body.dataset['busy'];
  }

  // --- Moves ---

  /** The version of the queue after the latest move of this page; the table has an older one until it is drawn anew. */
  let movedVersion = 0;
  const version = () => Math.max(movedVersion, Number(table()?.dataset['version'] ?? 0));
  /** Moves are made one after the other, so that each knows the version that the one before has made. @type {Promise<unknown>} */
  let moves = Promise.resolve();

  /** @typedef {{ before: string } | { after: string }} Place beside another task */

  /** @typedef {{ priority?: any, exact?: any, arrival?: any }} Standing of a row, in its data, or of an entry */
  /** Whether one goes before another in the line, where both may start. @param {Standing} one @param {Standing} other */
  function goesBefore(one, other) {
    for (const field of /** @type {const} */ (['priority', 'exact']))
      if (Number(one[field]) !== Number(other[field])) return Number(one[field]) > Number(other[field]);
    return Number(one.arrival) < Number(other.arrival);
  }

  /**
   * Where a row is to stand that was moved to where it is now. The rows are in the order of their predicted starts, which is not that of the line where some
   * have their model in memory and others do not: so it goes before all that it has passed on its way up, or after all on its way down, and nothing else.
   * @param {HTMLElement} row @param {Element | null} origin what it stood before; null: it was the last
   * @returns {Place | string | null} a text: what is asked for is so already
   */
  function placeOf(row, origin) {
    const [behind, ahead] = [/** @type {HTMLElement[]} */ ([]), /** @type {HTMLElement[]} */ ([])];
    let up = origin === null;
    for (let next = row.nextElementSibling; next !== null && next !== origin; next = next.nextElementSibling) behind.push(/** @type {HTMLElement} */ (next));
    for (let next = row.nextElementSibling; next !== null; next = next.nextElementSibling) up ||= next === origin;
    for (let next = origin; !up && next !== null && next !== row; next = next.nextElementSibling) ahead.push(/** @type {HTMLElement} */ (next));
    const passed = up ? behind : ahead;
    const seen = passed.filter((each) => taskOf(each) !== undefined && taskOf(each) !== taskOf(row));
    if (seen.length === 0) {
      if (passed.every((each) => taskOf(each) !== undefined)) return null;
      return up
        ? 'It cannot be placed before tasks of others; with a higher priority it may go before them.'
        : 'It cannot be placed behind tasks of others; with a lower priority it may go behind them.';
    }
    const furthest = seen.reduce((found, each) => (goesBefore(each.dataset, found.dataset) === up ? each : found));
    if (up && goesBefore(row.dataset, furthest.dataset)) return 'It goes before these already; its row tells what it waits for.';
    if (!up && goesBefore(furthest.dataset, row.dataset)) return 'It goes after these already; their rows tell what they wait for.';
    const task = taskOf(furthest) ?? '';
    return up ? { before: task } : { after: task };
  }

  /** The row that a place names. @param {Place} place */
  const beside = (place) =>
    /** @type {HTMLElement | null} */ (table()?.querySelector(`tr[data-task="${CSS.escape('before' in place ? place.before : place.after)}"]`) ?? null);

  /** Gives a row the standing of its new place until it is drawn anew, so that it may be moved on at once. @param {HTMLElement} row @param {Place} place @returns {() => void} takes it back */
  function standAs(row, place) {
    const { priority: oldPriority, exact: oldExact, arrival: oldArrival } = row.dataset;
    const { priority, exact, arrival } = beside(place)?.dataset ?? row.dataset;
    Object.assign(row.dataset, { priority, exact, arrival: Number(arrival) + ('before' in place ? -0.5 : 0.5) });
    return () => void Object.assign(row.dataset, { priority: oldPriority, exact: oldExact, arrival: oldArrival });
  }

  /** The priority that a row takes with a place, where it is another. @param {HTMLElement} row @param {Place} place */
  function newPriority(row, place) {
    const priority = beside(place)?.dataset['priority'];
    return priority === undefined || priority === row.dataset['priority'] ? null : priority;
  }

  /**
   * Asks for a place once the moves before are made. @param {string} task @param {{ before: string } | { after: string }} place
   * @returns {Promise<ApiAnswer>}
   */
  function move(task, place) {
    sending += 1;
    showBusy();
    const moved = moves.then(async () => {
      const answer = await call('POST', '/api/v1/queue/reorder', { task_id: task, ...place, version: version() });
      if (answer.ok) movedVersion = answer.body.version;
      return answer;
    });
    moves = moved.finally(() => {
      sending -= 1;
      showBusy();
      soon();
    });
    return moved;
  }

  /**
   * Asks for the place at which a row stands on the screen now; a refused move goes back, with the reason.
   * @param {HTMLElement} row
   * @param {Element | null} origin what it stood before
   * @param {() => void} putBack
   */
  async function moveTo(row, origin, putBack) {
    const [task, place] = [taskOf(row), placeOf(row, origin)];
    if (task === undefined || place === null) return putBack(); // beside itself
    if (typeof place === 'string') {
      putBack();
      return tell(place, 'problem');
    }
    const priority = newPriority(row, place);
    const takeBack = standAs(row, place);
    const answer = await move(task, place);
    if (answer.ok) {
      row.classList.add('moved');
      return tell(priority === null ? 'Moved.' : `Moved, with priority ${priority}.`, 'done');
    }
    takeBack();
    if (lifted?.row === row) forgetLift();
    putBack();
    tell(problemText(answer.body), 'problem');
  }

  // --- What a place would do to the others ---

  let asking = 0;
  let question = 0;
  /** @type {AbortController | undefined} */
  let pending;

  /** @param {string} text */
  function say(text) {
    const told = document.getElementById('preview');
    if (told !== null) told.textContent = text;
  }

  /**
   * Shows what the place of a row would do to the starts of the others.
   * @param {HTMLElement} row
   * @param {Element | null} origin what it stood before
   * @param {{ begin?: string, end?: string, shown?: () => void }} [told] what is said before and after it, and what happens when it is shown
   */
  function previewSoon(row, origin, { begin = '', end = '', shown = () => {} } = {}) {
    forgetPreview();
    if (begin !== '') say(begin);
    asking = window.setTimeout(async () => {
      const place = placeOf(row, origin);
      if (place === null) return shown();
      if (typeof place === 'string') {
        say(`${begin} ${place} ${end}`.trim());
        return shown();
      }
      const asked = question;
      pending = new AbortController();
      const answer = await call('POST', '/api/v1/queue/reorder/preview', { task_id: taskOf(row), ...place }, {}, pending.signal);
      if (asked !== question) return; // it was dropped, or moved on
      const priority = newPriority(row, place);
      const told = `${answer.ok ? showStarts(answer.body) : problemText(answer.body)}${answer.ok && priority !== null ? ` It takes priority ${priority}.` : ''}`;
      say(`${begin} ${told} ${end}`.trim());
      shown();
    }, dwellMs);
  }

  /** @param {any} preview @returns {string} the same in a sentence */
  function showStarts({ later, sooner, items }) {
    for (const { task_id: task, step, start_before: before, start_after: after } of items) {
      const cell = document.getElementById(`wait-${task}-${step}`)?.querySelector('.starts');
      if (!cell) continue;
      const seconds = Math.round((Date.parse(after) - Date.parse(before)) / 1_000);
      const note = document.createElement('div');
      note.className = `preview ${seconds > 0 ? 'later' : 'sooner'}`;
      note.textContent = `${seconds > 0 ? '+' : '−'}${span(Math.abs(seconds))}`;
      cell.append(note);
    }
    return later + sooner === 0 ? 'No start changes.' : `Dropped here, ${sooner} ${sooner === 1 ? 'starts' : 'start'} sooner and ${later} later.`;
  }

  function forgetPreview() {
    question += 1;
    window.clearTimeout(asking);
    pending?.abort();
    for (const note of document.querySelectorAll('.preview')) note.remove();
    say('');
  }

  /** @param {number} seconds */
  function span(seconds) {
    if (seconds < 60) return `${seconds} s`;
    if (seconds < 3_600) return `${Math.round(seconds / 60)} min`;
    return `${(seconds / 3_600).toFixed(1)} h`;
  }

  // --- By the keyboard: the arrow keys lift a row, a pause or Enter drops it, Escape puts it back ---

  /** The row to which the focus comes back when a drawing has taken it away. @type {{ id: string, task: string, control: string, index: number } | null} */
  let held = null;

  /** @param {HTMLElement} row @param {string} control */
  function keepFocus(row, control) {
    held = { id: row.id, task: taskOf(row) ?? '', control, index: [...(row.parentElement?.children ?? [])].indexOf(row) };
  }

  /** A row that has left the page gives the focus to the one that has taken its place. */
  function bringFocusBack() {
    const rows = /** @type {HTMLElement[]} */ ([...(table()?.querySelectorAll('tbody tr') ?? [])]);
    if (held === null || rows.length === 0 || (document.activeElement !== document.body && document.activeElement !== null)) return;
    const { id, task, control, index } = held;
    const row = rows.find((each) => each.id === id) ?? rows.find((each) => taskOf(each) === task) ?? rows[Math.min(index, rows.length - 1)];
    /** @type {HTMLElement | null | undefined} */ (row?.querySelector(control))?.focus({ preventScroll: true });
  }
  document.addEventListener('focusin', (event) => {
    if (event.target instanceof Element && held !== null && event.target.closest('tr')?.id !== held.id) held = null;
  });

  /** Another place among the rows; the focus goes with it. @param {HTMLElement} row @param {() => void} place */
  function replace(row, place) {
    keepFocus(row, '.grip');
    const kept = held;
    place();
    held = kept;
    gripOf(row)?.focus();
  }

  function forgetLift() {
    if (lifted === null) return;
    window.clearTimeout(lifted.timer);
    lifted.row.classList.remove('lifted');
    lifted = null;
    forgetPreview();
    showBusy();
  }

  /** @param {HTMLElement} row @param {'up' | 'down'} direction */
  function lift(row, direction) {
    const other = direction === 'up' ? row.previousElementSibling : row.nextElementSibling;
    if (other === null) {
      if (lifted === null) say(`It is the ${direction === 'up' ? 'first' : 'last'} on this page.`);
      return;
    }
    if (lifted !== null && lifted.row !== row) drop();
    lifted ??= { row, origin: row.nextElementSibling, timer: 0 };
    row.classList.add('lifted');
    showBusy();
    replace(row, () => (direction === 'up' ? other.before(row) : other.after(row)));
    const rows = [...(row.parentElement?.children ?? [])];
    settle(patienceMs);
    previewSoon(row, lifted.origin, {
      begin: `Row ${rows.indexOf(row) + 1} of ${rows.length}.`,
      end: 'Enter drops it, Escape puts it back.',
      shown: () => settle(settleMs),
    });
  }

  /** @param {number} ms until the lifted row is dropped */
  function settle(ms) {
    if (lifted === null) return;
    window.clearTimeout(lifted.timer);
    lifted.timer = window.setTimeout(drop, ms);
  }

  function drop() {
    if (lifted === null) return;
    const { row, origin } = lifted;
    forgetLift();
    const body = row.parentElement;
    if (body === null || row.nextElementSibling === origin) return;
    void moveTo(row, origin, () => replace(row, () => body.insertBefore(row, origin?.parentNode === body ? origin : null)));
  }

  function putBack() {
    if (lifted === null) return;
    const { row, origin } = lifted;
    forgetLift();
    replace(row, () => row.parentElement?.insertBefore(row, origin));
    say('It stands where it stood.');
    asking = window.setTimeout(() => say(''), toldMs);
    soon();
  }

  document.addEventListener('keydown', (event) => {
    const grip = event.target instanceof Element ? event.target.closest('.grip') : null;
    const row = grip?.closest('tr');
    if (!(row instanceof HTMLElement)) return;
    if (event.key === 'ArrowUp' || event.key === 'ArrowDown') lift(row, event.key === 'ArrowUp' ? 'up' : 'down');
    else if (lifted !== null && (event.key === 'Enter' || event.key === ' ')) drop();
    else if (lifted !== null && event.key === 'Escape') putBack();
    else return;
    event.preventDefault();
  });
  document.addEventListener('focusin', (event) => {
    if (lifted !== null && event.target !== gripOf(lifted.row)) drop();
  });

  // --- To the top ---

  /** To the top of the whole queue, whatever this page shows of it; whoever moves only own tasks, to the top of those. @param {HTMLElement} row */
  async function toTop(row) {
    const task = taskOf(row);
    if (task === undefined) return;
    keepFocus(row, '[data-top]');
    const own = table()?.dataset['own'] ?? '';
    const query = new URLSearchParams({ limit: String(frontEntries), ...(own === '' ? {} : { user: own }) });
    const front = await call('GET', `/api/v1/queue?${query}`);
    if (!front.ok) return tell(problemText(front.body), 'problem');
    const shown = /** @type {any[]} */ (front.body.items).filter(({ task_id: id }) => id !== null);
    const others = shown.filter(({ task_id: id }) => id !== task);
    if (others.length === 0 || shown[0].task_id === task)
      return tell(own === '' ? 'It is the first already.' : 'It is the first of your tasks already.', 'done');
    // The one that stands first in the line: those that start sooner may do so since their model is in memory.
    const { task_id: first, ...best } = others.reduce((found, each) => (goesBefore(each, found) ? each : found));
    if (goesBefore(row.dataset, best)) return tell('It goes before all others already; its row tells what it waits for.', 'done');
    movedVersion = Math.max(movedVersion, front.body.version); // of the order that was just looked at
    const answer = await move(task, { before: first });
    if (answer.ok) tell(own === '' ? 'Moved to the top of the queue.' : 'Moved before all your other tasks.', 'done');
    else tell(problemText(answer.body), 'problem');
  }

  // --- By dragging ---

  /** What can be dragged now; a redraw takes any mark off the table, but leaves the element. @type {{ body: HTMLElement, sortable: SortableOne } | null} */
  let sorted = null;

  function makeSortable() {
    const body = table()?.querySelector('tbody') ?? null;
    if (body === (sorted?.body ?? null)) return;
    sorted?.sortable.destroy();
    sorted = body && { body, sortable: sortableOf(body) };
  }

  /** @param {HTMLElement} body */
  function sortableOf(body) {
    /** @type {Element | null} */
    let origin = null;
    return window.Sortable.create(body, {
      handle: '.grip',
      draggable: 'tr',
      animation: 120,
      onStart: (/** @type {{ item: HTMLElement }} */ { item }) => {
        drop();
        dragged = true;
        showBusy();
        origin = item.nextElementSibling;
      },
      onChange: (/** @type {{ item: HTMLElement }} */ { item }) => previewSoon(item, origin),
      onEnd: (/** @type {{ item: HTMLElement, oldIndex: number, newIndex: number }} */ { item, oldIndex, newIndex }) => {
        dragged = false;
        showBusy();
        forgetPreview();
        const was = origin;
        if (oldIndex !== newIndex) void moveTo(item, was, () => body.insertBefore(item, was));
      },
    });
  }

  // From the touch on, so that no row is drawn anew under the finger; a drag ends in `onEnd`.
  document.addEventListener('pointerdown', (event) => {
    if (!(event.target instanceof Element) || event.target.closest('.grip') === null) return;
    pressed = true;
    showBusy();
  });
  for (const end of ['pointerup', 'pointercancel']) {
    document.addEventListener(end, () => {
      pressed = false;
      showBusy();
    });
  }

  // --- Several at once ---

  /** Ids of all that fit the filters, beyond this page too; null: those that are ticked. @type {string[] | null} */
  let everything = null;
  const boxes = () => /** @type {HTMLInputElement[]} */ ([...document.querySelectorAll('#queue input[name="task"]')]);
  const chosen = () =>
    everything ?? [
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
    const all = /** @type {HTMLElement | null} */ (bar.querySelector('[data-select-all]'));
    if (all !== null) all.hidden = everything !== null || document.querySelector('.pager') === null;
  }

  function unselect() {
    everything = null;
    for (const box of boxes()) box.checked = false;
    const all = /** @type {HTMLInputElement | null} */ (document.getElementById('all'));
    if (all !== null) all.checked = false;
    showSelection();
  }

  const filters = () => [...new URLSearchParams(location.search)].filter(([name, value]) => name !== 'cursor' && value !== '');

  /** Everything that fits the filters, page by page. */
  async function selectAll() {
    const ids = new Set();
    let cursor = null;
    do {
      const query = new URLSearchParams([...filters(), ['limit', String(pageEntries)], ...(cursor === null ? [] : [['cursor', cursor]])]);
      const page = await call('GET', `/api/v1/queue?${query}`);
      if (!page.ok) return tell(problemText(page.body), 'problem');
      for (const { task_id: id } of page.body.items) if (id !== null) ids.add(id);
      cursor = page.body.next_cursor;
    } while (cursor !== null);
    everything = [...ids];
    for (const box of boxes()) box.checked = true;
  }

  /** @param {HTMLElement} bar */
  function noteOf(bar) {
    if (everything === null) return undefined;
    const named = filters().map(([name, value]) => `${name === 'status_detail' ? 'reason' : name} ${value.replaceAll('_', ' ')}`);
    const all = named.length === 0 ? 'Everything that waits.' : `Everything that waits with ${named.join(', ')}.`;
    return bar.dataset['allUsers'] === undefined ? all : `${all} These are tasks of all users.`;
  }

  document.addEventListener('change', (event) => {
    if (!(event.target instanceof HTMLInputElement)) return;
    if (event.target.id === 'all') for (const box of boxes()) box.checked = event.target.checked;
    if (event.target.id === 'all' || event.target.name === 'task') everything = null;
    showSelection();
  });

  document.addEventListener('click', (event) => {
    const target = event.target instanceof Element ? event.target : null;
    const row = target?.closest('[data-top]')?.closest('tr');
    if (row instanceof HTMLElement) return void toTop(row);
    if (target?.closest('[data-unselect]')) return unselect();
    const all = target?.closest('[data-select-all]');
    if (all instanceof HTMLButtonElement) return void alone(all, selectAll).then(showSelection);
    const bulk = target?.closest('[data-bulk]');
    const bar = bulk?.closest('form');
    if (!(bulk instanceof HTMLButtonElement) || !(bar instanceof HTMLFormElement)) return;
    const which = { ids: chosen() };
    const note = noteOf(bar);
    const change =
      bulk.dataset['bulk'] === 'cancel'
        ? /** @type {BulkChange} */ ({ action: 'cancel', which, note })
        : /** @type {BulkChange} */ ({ action: 'priority', priority: Number(new FormData(bar).get('priority')), which, note, asks: everything !== null });
    void alone(bulk, async () => {
      if (await perform(bulk, change)) unselect();
    });
  });

  document.addEventListener('htmx:after:swap', () => {
    makeSortable();
    showSelection();
    bringFocusBack();
  });
  makeSortable();
})();
