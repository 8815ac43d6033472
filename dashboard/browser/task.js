// The page of a task: follows its events, shows what it prints from the beginning on, and draws the rest anew when something happens.
(() => {
  const { call, tell, soon, problemText, showLive } = window.orchestra;
  const { curlOf, commandOf } = window.orchestraCommands;
  const head = () => document.getElementById('task');
  const id = head()?.dataset['task'];
  if (id === undefined) return; // there is no such task

  /** Characters of output that the page keeps; the API has the rest. */
  const keptChars = 200_000;
  /** Characters of one piece, so that the oldest can go without much more. */
  const pieceChars = 4_000;
  const flushMs = 60;
  const openPollMs = 5_000;
  const endedPollMs = 15_000;
  const kinds = [
    ...[
      'queued',
      'started',
      'step_started',
      'output',
      'progress',
      'step_finished',
      'step_failed',
      'grant_lost',
      'completed',
      'failed',
      'cancelled',
      'retried',
      'replayed',
    ],
    ...[
      'priority_changed',
      'held',
      'released',
      'dependency_added',
      'dependency_removed',
      'lock_acquired',
      'lock_released',
      'deadlock',
      'gave_way',
      'reset_outside',
      'message',
    ],
  ];
  const panel = () => /** @type {HTMLElement} */ (document.getElementById('output'));
  const open = () => head()?.dataset['open'] !== undefined;

  /** @typedef {{ kind: 'said' | 'from' | 'text' | 'stdout' | 'stderr', text: string }} Piece */
  /** @type {Piece[]} */
  let pending = [];
  let pendingChars = 0;
  let panelChars = 0;
  let begun = false;
  let atEnd = true;
  let from = '';
  /** @type {number | undefined} */
  let flushing;
  /** @type {[bigint, bigint]} */
  let last = [-1n, -1n];
  /** the last event told of an end */
  let over = false;
  /** when the server drew the page first, by its own clock */
  const loadedMs = Number(head()?.dataset['drawn']);

  /** Colours and movements of a terminal mean nothing here. @param {string} text */
  const plain = (text) => text.replaceAll(/\u001b\[[0-9;?]*[ -/]*[@-~]/g, '').replaceAll(/\r\n?/g, '\n');

  /** @param {Piece} piece */
  function add(piece) {
    const before = pending.at(-1);
    if (before !== undefined && before.kind === piece.kind && piece.kind !== 'said' && piece.kind !== 'from' && before.text.length < pieceChars)
      before.text += piece.text;
    else pending.push(piece);
    pendingChars += piece.text.length;
    // What would not be kept is not drawn either, however much is replayed.
    while (pendingChars > keptChars && pending.length > 1) {
      pendingChars -= pending.shift()?.text.length ?? 0;
      showLeft();
    }
    flushing ??= window.setTimeout(flush, flushMs);
  }

  function showLeft() {
    const note = document.getElementById('output-left');
    if (note !== null) note.hidden = false;
  }

  function flush() {
    flushing = undefined;
    const into = panel();
    if (!begun) into.replaceChildren();
    begun = true;
    const drawn = document.createDocumentFragment();
    for (const { kind, text } of pending) {
      panelChars += text.length;
      const before = drawn.lastChild ?? into.lastChild;
      const goesOn = before instanceof HTMLSpanElement && before.className === kind && (before.textContent?.length ?? 0) < pieceChars;
      if (goesOn) {
        before.append(text);
        continue;
      }
      const node = document.createElement(kind === 'said' || kind === 'from' ? 'p' : 'span');
      node.className = kind;
      node.textContent = text;
      drawn.append(node);
    }
    into.append(drawn);
    pending = [];
    pendingChars = 0;
    while (panelChars > keptChars && into.firstChild !== null) {
      panelChars -= into.firstChild.textContent?.length ?? 0;
      into.firstChild.remove();
      showLeft();
    }
    if (atEnd) into.scrollTop = into.scrollHeight;
  }

  // Who scrolls up reads on undisturbed; at the end, or by the button, the page follows again.
  panel().addEventListener('scroll', () => {
    const { scrollHeight, scrollTop, clientHeight } = panel();
    atEnd = scrollHeight - scrollTop - clientHeight < 40;
    const button = document.getElementById('follow');
    if (button !== null) button.hidden = atEnd;
  });

  /** @param {Record<string, any>} data @param {string} kind */
  function sentence(kind, data) {
    const where = typeof data['step'] === 'string' ? ` ${data['step']}` : '';
    const more = [
      typeof data['try'] === 'number' && data['try'] > 1 ? `try ${data['try']}` : '',
      kind === 'step_started' && typeof data['host'] === 'string' ? `on ${data['host']}` : '',
      typeof data['cause'] === 'string' ? data['cause'] : '',
    ].filter((part) => part !== '');
    const error = data['error']?.message ?? data['error']?.code;
    const said = kind === 'grant_lost' ? 'waits for a slot again, since its last one was lost:' : kind.replaceAll('_', ' ');
    return `${said}${where}${more.length > 0 ? `, ${more.join(', ')}` : ''}${typeof error === 'string' ? `: ${error}` : ''}`;
  }

  const bars = () => /** @type {HTMLElement} */ (document.getElementById('progress'));
  /** @param {string} step */
  const barOf = (step) => [...bars().children].find((bar) => bar instanceof HTMLElement && bar.dataset['step'] === step);

  /** @param {Record<string, any>} data */
  function showProgress({ step, phase, done, total }) {
    let bar = barOf(step);
    if (bar === undefined) {
      bar = document.createElement('div');
      /** @type {HTMLElement} */ (bar).dataset['step'] = step;
      bar.append(document.createElement('span'));
      bars().append(bar);
    }
    const [text] = bar.children;
    const counted = typeof done === 'number' ? (typeof total === 'number' ? ` ${done} of ${total}` : ` ${done}`) : '';
    if (text !== undefined) text.textContent = `${step}: ${String(phase).replaceAll('_', ' ')}${counted}`;
    let meter = bar.querySelector('progress');
    if (typeof done !== 'number' || typeof total !== 'number') return meter?.remove();
    if (meter === null) {
      meter = document.createElement('progress');
      meter.setAttribute('aria-label', step);
      bar.append(meter);
    }
    meter.max = total;
    meter.value = done;
  }

  /** @param {MessageEvent} message */
  function take(message) {
    const [txid = 0n, place = 0n] = message.lastEventId.split('.').map(BigInt);
    if (txid < last[0] || (txid === last[0] && place <= last[1])) return; // replayed to a page that has seen it
    last = [txid, place];
    const { kind, at, data } = JSON.parse(message.data);
    over = ['completed', 'failed', 'cancelled'].includes(kind);
    if (kind === 'output') {
      const source = `${data.step}${data.attempt > 1 ? `, attempt ${data.attempt}` : ''}`;
      if (source !== from) add({ kind: 'from', text: source });
      from = source;
      if (typeof data.text === 'string' && data.text !== '')
        add({ kind: ['stdout', 'stderr'].includes(data.stream) ? data.stream : 'text', text: plain(data.text) });
      if (data.truncated) add({ kind: 'said', text: 'what it gives from here on is in its result only' });
      return;
    }
    if (kind === 'progress') {
      if (open()) showProgress(data);
      return;
    }
    if (typeof data.step === 'string') barOf(data.step)?.remove();
    if (over) bars().replaceChildren();
    add({ kind: 'said', text: `${new Date(at).toLocaleTimeString()} ${sentence(kind, data)}` });
    from = '';
    if (Date.parse(at) > loadedMs - 2_000) soon();
  }

  /** @type {EventSource | undefined} */
  let source;
  /** @type {number | undefined} */
  let again;

  function follow() {
    window.clearTimeout(again);
    again = undefined;
    if (document.hidden) return; // as soon as it is looked at, see frame.js
    const seen = last[0] < 0n ? '' : `?after=${last.join('.')}`;
    const opened = new EventSource(`/api/v1/tasks/${id}/events${seen}`);
    source = opened;
    for (const kind of kinds) opened.addEventListener(kind, take);
    let times = 0;
    opened.addEventListener('open', () => {
      showLive('live');
      if (times > 0) soon(); // what happened meanwhile
      times += 1;
    });
    opened.addEventListener('error', () => {
      if (over) opened.close(); // the server ends the stream with the task, and would say so once more
      if (opened.readyState !== EventSource.CLOSED) return showLive(navigator.onLine ? 'polling' : 'offline');
      source = undefined;
      showLive(over || !open() ? 'ended' : 'polling');
      soon();
      if (!over && open()) again = window.setTimeout(follow, openPollMs);
    });
  }

  function unfollow() {
    window.clearTimeout(again);
    again = undefined;
    source?.close();
    source = undefined;
  }

  document.addEventListener('visibilitychange', () => {
    if (document.hidden) unfollow();
    else if (source === undefined && !over) follow();
  });

  // Places and predictions change without an event of the task; a task that has ended may be retried by somebody else.
  let drawnMs = Date.now();
  window.setInterval(() => {
    if (Date.now() - drawnMs < (open() ? openPollMs : endedPollMs)) return;
    drawnMs = Date.now();
    soon();
  }, 1_000);

  document.addEventListener('htmx:after:swap', () => {
    drawnMs = Date.now();
    const level = document.getElementById('priority');
    if (level instanceof HTMLSelectElement && document.activeElement !== level) level.value = level.dataset['priority'] ?? level.value;
    if (source === undefined && again === undefined && open()) follow();
  });

  document.addEventListener('change', async (event) => {
    const level = event.target;
    if (!(level instanceof HTMLSelectElement) || level.id !== 'priority') return;
    const answer = await call('PATCH', `/api/v1/tasks/${id}/priority`, { priority: Number(level.value) });
    tell(answer.ok ? `Priority ${level.value}.` : problemText(answer.body), answer.ok ? 'done' : 'problem');
    if (!answer.ok) level.value = level.dataset['priority'] ?? level.value;
    soon();
  });

  /** Fills in what the buttons copy: the address of this server is known to the browser, not to the server behind a proxy. */
  function fillCommands() {
    const commands = document.getElementById('commands');
    if (commands === null) return;
    const { request = '{}', keyHeader = '' } = commands.dataset;
    const said = JSON.parse(request);
    const texts = { curl: curlOf(said, { origin: location.origin, apiKeyHeader: keyHeader }), command: commandOf(said, location.origin) };
    for (const button of commands.querySelectorAll('button')) {
      const text = texts[/** @type {'curl' | 'command'} */ (button.dataset['copyAs'])];
      button.hidden = text === null;
      if (text !== null) button.dataset['copy'] = text;
    }
  }
  document.addEventListener('htmx:after:swap', fillCommands);
  fillCommands();

  document.addEventListener('click', (event) => {
    if (!(event.target instanceof Element) || event.target.closest('#follow') === null) return;
    atEnd = true;
    panel().scrollTop = panel().scrollHeight;
  });

  follow();
})();
