// What every page does: follows what happens while it is looked at, calls the API for buttons and forms, shows times as the reader has them, tells what went wrong.
(() => {
  /** Shortest time between two drawings of the page, in milliseconds. */
  const redrawMs = 1_000;
  const pollMs = 2_000;
  const againMs = 5_000;
  const { htmx } = window;
  // What the reader has opened, ticked or written stays.
  htmx.config['morphIgnore'] = ['data-htmx-powered', 'open', 'checked', 'hidden', 'tabindex'];
  htmx.config['includeIndicatorCSS'] = false;
  const live = document.getElementById('live');
  const topics = (document.body.dataset['live'] ?? '').split(' ').filter(Boolean);

  let drawnMs = performance.now();
  /** @type {number | undefined} */
  let waiting;
  let drawing = false;

  /** Draws the page anew, unless somebody is in the middle of something on it; then a little later. */
  async function redraw() {
    waiting = undefined;
    if (document.hidden) return; // as soon as it is looked at
    if (drawing || isBusy()) return soon();
    drawing = true;
    drawnMs = performance.now();
    try {
      // What goes wrong is told by events of the page.
      await htmx.ajax('GET', location.pathname + location.search, { target: '#main', select: '#main', swap: 'outerMorph', source: '#main' });
    } finally {
      drawing = false;
    }
  }

  function soon() {
    waiting ??= window.setTimeout(redraw, Math.max(300, redrawMs - (performance.now() - drawnMs)));
  }

  const isBusy = () => document.body.dataset['busy'] !== undefined;

  /** @type {'connecting' | 'live' | 'polling' | 'offline' | 'ended'} */
  let following = 'connecting';
  /** the last drawing failed, so that what stands here may be old */
  let old = false;
  let retry = 0;

  function showBadge() {
    const state = old ? 'old' : following;
    if (live === null || live.dataset['state'] === state) return;
    live.dataset['state'] = state;
    live.textContent = old ? 'out of date' : following;
  }

  /** @param {typeof following} state */
  function show(state) {
    following = state;
    showBadge();
  }

  /** @param {boolean} asked somebody has chosen something and waits for it */
  function notDrawn(asked) {
    if (asked || (live === null && !old)) tell('The server does not answer as it should; what this page shows may be old.', 'problem');
    old = true;
    showBadge();
    window.clearTimeout(retry);
    retry = window.setTimeout(soon, againMs);
  }

  /** @type {EventSource | undefined} */
  let source;
  let polling = 0;
  let again = 0;

  /** A browser has six connections to one server for all of its pages, and a stream takes one: only pages that somebody looks at follow. */
  function follow() {
    if (topics.length === 0 || document.hidden || source !== undefined) return;
    const opened = new EventSource(`/live?topics=${topics.join(',')}`);
    source = opened;
    opened.addEventListener('open', () => {
      window.clearInterval(polling);
      polling = 0;
      show('live');
      soon(); // what happened meanwhile
    });
    opened.addEventListener('changed', soon);
    opened.addEventListener('error', () => {
      show(navigator.onLine ? 'polling' : 'offline');
      if (polling === 0) polling = window.setInterval(soon, pollMs);
      if (opened.readyState !== EventSource.CLOSED) return;
      source = undefined;
      again = window.setTimeout(follow, againMs);
    });
  }

  function unfollow() {
    window.clearTimeout(again);
    window.clearInterval(polling);
    polling = 0;
    source?.close();
    source = undefined;
  }

  // An answer that is no page is told, not drawn; one that leads to the sign-in is followed.
  document.addEventListener('htmx:before:swap', (event) => {
    const { sourceElement, response } = /** @type {CustomEvent} */ (event).detail?.ctx ?? {};
    const raw = response?.raw ?? response;
    // A redraw that was under way when somebody took hold of something, or chose another filter, comes too late.
    if (sourceElement?.id === 'main' && raw?.url && (isBusy() || new URL(raw.url).search !== location.search)) {
      event.preventDefault();
      soon();
      return;
    }
    if (raw?.status === 401 || (raw?.redirected && new URL(raw.url).pathname === '/sign-in')) {
      event.preventDefault();
      location.reload();
      return;
    }
    const type = raw?.headers?.get?.('content-type') ?? '';
    if (type.startsWith('text/html') && !(raw.status >= 500 || raw.status === 429)) return;
    event.preventDefault();
    notDrawn(sourceElement?.id !== 'main');
  });
  document.addEventListener('htmx:error', (event) => {
    const { ctx } = /** @type {CustomEvent} */ (event).detail ?? {};
    if (ctx?.request !== undefined) notDrawn(ctx.sourceElement?.id !== 'main');
  });
  document.addEventListener('htmx:after:swap', () => {
    old = false;
    showBadge();
  });

  /**
   * @param {string} text
   * @param {'done' | 'problem'} kind
   */
  function tell(text, kind) {
    const toast = document.createElement('p');
    toast.className = `toast ${kind}`;
    toast.textContent = text;
    if (kind === 'problem') {
      const close = document.createElement('button');
      close.type = 'button';
      close.className = 'close';
      close.setAttribute('aria-label', 'Close');
      close.addEventListener('click', () => toast.remove());
      toast.append(close);
    }
    document.getElementById('toasts')?.append(toast);
    window.setTimeout(() => toast.remove(), kind === 'problem' ? 12_000 : 4_000);
  }

  /**
   * Calls the API as the page's reader.
   * @param {string} method
   * @param {string} path
   * @param {unknown} [body]
   * @param {Record<string, string>} [headers]
   * @param {AbortSignal | null} [signal] ends the call when nobody needs its answer any more
   * @returns {Promise<ApiAnswer>}
   */
  async function call(method, path, body, headers = {}, signal = null) {
    try {
      const answer = await fetch(path, {
        method,
        signal,
        headers: body === undefined ? headers : { 'Content-Type': 'application/json', ...headers },
        ...(body === undefined ? {} : { body: JSON.stringify(body) }),
      });
      if (answer.status === 401) location.reload();
      const content = answer.status === 204 ? null : await answer.json().catch(() => null);
      return { ok: answer.ok, body: content, status: answer.status };
    } catch {
      return { ok: false, body: { detail: 'The server does not answer; try again.' }, status: 0 };
    }
  }

  /** Browsers give pages the clipboard only under https and on this machine itself; elsewhere a selection is copied. @param {string} text */
  async function copy(text) {
    if (navigator.clipboard !== undefined)
      return navigator.clipboard.writeText(text).then(
        () => true,
        () => false,
      );
    const area = document.createElement('textarea');
    area.value = text;
    area.className = 'off-screen';
    document.body.append(area);
    area.select();
    const done = document.execCommand('copy');
    area.remove();
    return done;
  }

  /** @param {any} body */
  function problemText(body) {
    const faults = (body?.errors ?? []).map((/** @type {any} */ fault) => `${fault.path}: ${fault.message}`);
    return [body?.detail ?? body?.title ?? 'That failed.', ...faults].join(' ');
  }

  /**
   * Asks before something is done; the safe answer has the focus, and Escape gives it too.
   * @param {{ question: string, note?: string | undefined, yes: string, no: string }} what
   * @returns {Promise<boolean>}
   */
  function ask({ question, note, yes, no }) {
    const dialog = document.createElement('dialog');
    dialog.className = 'question';
    dialog.setAttribute('aria-labelledby', 'question');
    const title = document.createElement('h2');
    title.id = 'question';
    title.textContent = question;
    dialog.append(title);
    if (note !== undefined) {
      const text = document.createElement('p');
      text.id = 'question-note';
      text.textContent = note;
      dialog.setAttribute('aria-describedby', 'question-note');
      dialog.append(text);
    }
    const form = document.createElement('form');
    form.method = 'dialog';
    for (const [value, label, style] of [
      ['no', no, ''],
      ['yes', yes, 'danger'],
    ]) {
      const button = document.createElement('button');
      button.value = value ?? '';
      button.textContent = label ?? '';
      button.className = style ?? '';
      button.autofocus = value === 'no';
      form.append(button);
    }
    dialog.append(form);
    document.body.append(dialog);
    return new Promise((resolve) => {
      dialog.addEventListener('close', () => {
        dialog.remove();
        resolve(dialog.returnValue === 'yes');
      });
      dialog.showModal();
    });
  }

  window.orchestra = { call, ask, tell, soon, problemText, showLive: show };

  // A button with `data-call="DELETE /api/v1/tasks/x"` calls the API; `data-body` is its body, `data-done` what is told after, `data-accepted` when it is only under way.
  // `data-confirm` is a question before it, with the answers `data-yes` and `data-no`.
  document.addEventListener('click', async (event) => {
    const target = event.target instanceof Element ? event.target : null;
    const copied = target?.closest('[data-copy]');
    if (copied instanceof HTMLElement) {
      if (await copy(copied.dataset['copy'] ?? '')) tell('Copied.', 'done');
      else tell('The browser does not let this page copy.', 'problem');
      return;
    }
    const button = target?.closest('button[data-call]');
    if (!(button instanceof HTMLButtonElement)) return;
    const { call: wanted = '', body, confirm: question, yes = 'Do it', no = 'Leave it', done = 'Done.', accepted = done } = button.dataset;
    if (question !== undefined && !(await ask({ question, yes, no }))) return;
    const [method = 'GET', path = '/'] = wanted.split(' ');
    button.disabled = true;
    const answer = await call(method, path, body === undefined ? undefined : JSON.parse(body));
    button.disabled = false;
    tell(answer.ok ? (answer.status === 202 ? accepted : done) : problemText(answer.body), answer.ok ? 'done' : 'problem');
    soon();
  });

  /** As `relative` in format.ts. @param {number} ms */
  function relative(ms) {
    const span = Math.abs(ms);
    if (span < 1_000) return 'now';
    const [unit, name] = span < 59_500 ? [1_000, 's'] : span < 3_570_000 ? [60_000, 'min'] : span < 84_600_000 ? [3_600_000, 'h'] : [86_400_000, 'd'];
    const text = `${Math.round(span / Number(unit))} ${name}`;
    return ms > 0 ? `in ${text}` : `${text} ago`;
  }

  const full = new Intl.DateTimeFormat(undefined, { dateStyle: 'medium', timeStyle: 'medium' });

  /** Times are drawn by the server in UTC; here they get the reader's own, and those that are relative go on. */
  function tick() {
    for (const element of document.querySelectorAll('time[datetime]')) {
      if (!(element instanceof HTMLTimeElement)) continue;
      const at = Date.parse(element.dateTime);
      const ahead = at - Date.now();
      const text = !('relative' in element.dataset)
        ? full.format(at)
        : element.dataset['relative'] === 'expected' && ahead < 0
          ? 'any moment'
          : relative(ahead);
      if (element.textContent !== text) element.textContent = text;
      const title = full.format(at);
      if ('relative' in element.dataset && !element.title) element.title = title;
    }
  }
  /** What can be scrolled is reached by the keyboard too; what fits is no stop on the way. */
  function reachScrolled() {
    for (const box of document.querySelectorAll('.scroll')) {
      if (box.scrollWidth > box.clientWidth || box.scrollHeight > box.clientHeight) box.setAttribute('tabindex', '0');
      else box.removeAttribute('tabindex');
    }
  }
  document.addEventListener('htmx:after:swap', tick);
  document.addEventListener('htmx:after:swap', reachScrolled);
  document.addEventListener('toggle', reachScrolled, true);
  window.addEventListener('resize', reachScrolled);
  reachScrolled();
  window.setInterval(tick, 1_000);
  document.addEventListener('visibilitychange', () => {
    if (document.hidden) return unfollow();
    follow();
    soon();
  });
  tick();
  showBadge();
  follow();
})();
