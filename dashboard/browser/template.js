// The form of a template: reads it into the types of its parameters, submits it once, shows faults beside their fields, what would run, and the same by command.
(() => {
  const { call, tell, problemText } = window.orchestra;
  const { curlOf, commandOf } = window.orchestraCommands;
  const form = /** @type {HTMLFormElement | null} */ (document.getElementById('new-task'));
  const calls = document.getElementById('calls');
  const curl = document.querySelector('[data-call-curl]');
  const cli = document.querySelector('[data-call-cli]');

  // --- The same by command ---

  /** @param {Element | null} place @param {string} text */
  function showCall(place, text) {
    if (place === null) return;
    place.textContent = text;
    const copy = place.previousElementSibling?.querySelector('[data-copy]');
    if (copy instanceof HTMLElement) copy.dataset['copy'] = text;
  }

  /** With the address of this server that the browser knows, which a proxy keeps from the server. @param {SubmitRequest} request */
  function showCallsOf(request) {
    const { origin } = location;
    showCall(cli, commandOf(request, origin) ?? '');
    showCall(curl, curlOf(request, { origin, apiKeyHeader: calls?.dataset['keyHeader'] ?? '' }));
  }

  if (calls !== null) showCallsOf(JSON.parse(calls.dataset['example'] ?? '{}'));
  if (form === null) return;

  /** @typedef {{ path: string, message: string }} Fault */
  /** @typedef {HTMLInputElement | HTMLTextAreaElement | HTMLSelectElement} Control */

  const fields = /** @type {HTMLElement[]} */ ([...form.querySelectorAll('.field')]);
  /** @param {Element | null} field */
  const controlOf = (field) => /** @type {Control} */ (field?.querySelector('[data-control]'));
  /** @param {string} path */
  const fieldAt = (path) => fields.find((field) => field.dataset['field'] === path) ?? null;
  /** @param {string} path */
  const textAt = (path) => controlOf(fieldAt(path)).value.trim();

  // --- What the form says ---

  const empty = 'Fill this in.';

  /** @param {string} message @returns {never} */
  function refuse(message) {
    throw new RangeError(message);
  }

  /**
   * @param {number} size
   * @param {DOMStringMap} bounds
   * @param {string} unit
   */
  function checkSize(size, { min, max }, unit) {
    const of = (/** @type {string} */ amount) => (unit === '' ? amount : `${amount} ${unit}${amount === '1' ? '' : 's'}`);
    if (min !== undefined && size < Number(min)) refuse(`At least ${of(min)}${unit === '' ? '' : `; there ${size === 1 ? 'is' : 'are'} ${size}`}.`);
    if (max !== undefined && size > Number(max)) refuse(`At most ${of(max)}${unit === '' ? '' : `; there are ${size}`}.`);
  }

  /** @param {string} text */
  function json(text) {
    try {
      return JSON.parse(text);
    } catch (error) {
      return refuse(`This is no valid JSON: ${/** @type {Error} */ (error).message}.`);
    }
  }

  /** One item per line, or a JSON list. @param {string} text */
  function listOf(text) {
    const whole = text.trim();
    if (whole.startsWith('[') && whole.endsWith(']')) return /** @type {unknown[]} */ (json(whole));
    return whole
      .split('\n')
      .map((line) => line.trim())
      .filter((line) => line !== '');
  }

  /**
   * The value of a parameter; undefined: none is given, so that the default counts. What was emptied although there is a default is empty.
   * @param {HTMLElement} field
   * @throws {RangeError} with what is wrong with it
   */
  function valueOf(field) {
    const control = controlOf(field);
    const { widget, type } = field.dataset;
    const required = 'required' in field.dataset;
    const defaulted = 'defaulted' in field.dataset;
    const text = control.value;
    const blank = text.trim() === '';
    switch (widget) {
      case 'checkbox':
        return /** @type {HTMLInputElement} */ (control).checked;
      case 'choice':
        return blank ? undefined : text === 'true';
      case 'select':
        if (text === '') return required ? refuse('Choose one.') : undefined;
        return type === 'string' ? text : Number(text);
      case 'number': {
        if (control.validity.badInput) refuse('This is no number.');
        if (blank) return required ? refuse(empty) : undefined;
        const value = Number(text);
        if (type === 'integer' && !Number.isSafeInteger(value)) refuse('Only whole numbers.');
        checkSize(value, field.dataset, '');
        return value;
      }
      case 'json': {
        if (blank) return required ? refuse(empty) : undefined;
        const value = json(text);
        if (typeof value !== 'object' || value === null || Array.isArray(value)) refuse('A JSON object is needed, such as {"name": "value"}.');
        return value;
      }
      case 'list':
      case 'files': {
        if (blank && required) refuse(empty);
        if (blank && !defaulted) return undefined;
        const items = listOf(text);
        checkSize(items.length, field.dataset, 'item');
        return items;
      }
      default: {
        const value = widget === 'model' ? text.trim() : text;
        if (value === '' && required) refuse(empty);
        if (value === '' && !defaulted) return undefined;
        checkSize([...value].length, field.dataset, 'character');
        if (control.validity.patternMismatch) refuse('This has not the form that is asked for.');
        return value;
      }
    }
  }

  /** @returns {{ request: Record<string, any>, faults: Fault[] }} */
  function read() {
    /** @type {Fault[]} */
    const faults = [];
    /** @type {Record<string, unknown>} */
    const parameters = {};
    for (const field of fields) {
      const { name, field: path = '' } = field.dataset;
      if (name === undefined) continue;
      try {
        const value = valueOf(field);
        if (value !== undefined) parameters[name] = value;
      } catch (error) {
        faults.push({ path, message: /** @type {Error} */ (error).message });
      }
    }
    /** @type {Record<string, number>} */
    const resources = {};
    for (const word of textAt('resource_requirements.resources')
      .split(/[\s,]+/)
      .filter(Boolean)) {
      const [, pool, amount] = /^([^=]+)=(\d+(?:\.\d+)?)$/.exec(word) ?? [];
      if (pool === undefined) faults.push({ path: 'resource_requirements.resources', message: `“${word}” is no amount of a pool; write pool=amount.` });
      else resources[pool] = Number(amount);
    }
    const locks = textAt('resource_requirements.locks')
      .split(/[\s,]+/)
      .filter(Boolean);
    const after = textAt('depends_on')
      .split(/[\s,]+/)
      .filter(Boolean);
    const attempts = controlOf(fieldAt('retry.max_attempts'));
    if (!attempts.validity.valid) faults.push({ path: 'retry.max_attempts', message: 'A whole number from 1 to 100.' });
    const name = textAt('name');
    const needs = { ...(locks.length === 0 ? {} : { locks }), ...(Object.keys(resources).length === 0 ? {} : { resources }) };
    return {
      faults,
      request: {
        template: form?.dataset['template'],
        parameters,
        priority: Number(textAt('priority')),
        ...(name === '' ? {} : { name }),
        ...(after.length === 0 ? {} : { depends_on: after }),
        ...(Object.keys(needs).length === 0 ? {} : { resource_requirements: needs }),
        ...(attempts.value === '' ? {} : { retry: { max_attempts: Number(attempts.value) } }),
      },
    };
  }

  // --- Faults ---

  const problem = /** @type {HTMLElement} */ (document.getElementById('form-problem'));

  /** @param {HTMLElement} field @param {string} [message] */
  function mark(field, message) {
    const place = /** @type {HTMLElement | null} */ (field.querySelector('.fault'));
    if (place === null) return;
    place.textContent = message ?? '';
    place.hidden = message === undefined;
    if (message === undefined) controlOf(field).removeAttribute('aria-invalid');
    else controlOf(field).setAttribute('aria-invalid', 'true');
  }

  /** The field that a fault is about. @param {string} path */
  function fieldOfFault(path) {
    const found = fields.find(({ dataset: { field = '' } }) => path === field || path.startsWith(`${field}.`) || path.startsWith(`${field}[`));
    return found ?? (path.startsWith('resource_requirements') ? fieldAt('resource_requirements.resources') : null);
  }

  function clearFaults() {
    for (const field of fields) mark(field);
    problem.hidden = true;
  }

  /**
   * Shows faults beside their fields, and those that have none above the buttons; the first one gets the focus.
   * @param {readonly Fault[]} faults
   * @param {string} text what to say where no fault names a field
   */
  function showFaults(faults, text) {
    clearFaults();
    /** @type {Map<HTMLElement, string[]>} */
    const byField = new Map();
    /** @type {string[]} */
    const rest = [];
    for (const { path, message } of faults) {
      const field = fieldOfFault(path);
      if (field === null) rest.push(message);
      else byField.set(field, [...(byField.get(field) ?? []), message]);
    }
    for (const [field, messages] of byField) {
      mark(field, messages.join(' '));
      field.closest('details')?.setAttribute('open', '');
    }
    const first = fields.find((field) => byField.has(field));
    const count = byField.size;
    const told = count === 0 ? '' : `${count === 1 ? 'One field has' : `${count} fields have`} to be changed.`;
    problem.textContent = [told, ...(rest.length > 0 ? rest : count === 0 ? [text] : [])].filter(Boolean).join(' ');
    problem.hidden = false;
    if (first === undefined) problem.focus();
    else controlOf(first).focus();
  }

  // --- What was written stays, also when the sign-in ends meanwhile; for its author alone, since others may sign in here next ---

  const draftName = `draft of ${document.body.dataset['user']} ${location.pathname}${location.search}`;
  const kept = /** @type {HTMLElement | null} */ (form.querySelector('[data-kept]'));
  const controls = fields.map(controlOf);
  /** @param {Control} control */
  const isTick = (control) => control instanceof HTMLInputElement && control.type === 'checkbox';

  function keepDraft() {
    try {
      sessionStorage.setItem(
        draftName,
        JSON.stringify(
          Object.fromEntries(controls.map((control) => [control.id, isTick(control) ? /** @type {HTMLInputElement} */ (control).checked : control.value])),
        ),
      );
    } catch {
      // no room, or none allowed: the form works without
    }
  }

  function forgetDraft() {
    sessionStorage.removeItem(draftName);
    if (kept !== null) kept.hidden = true;
  }

  function restoreDraft() {
    const text = sessionStorage.getItem(draftName);
    if (text === null) return;
    const draft = JSON.parse(text);
    let different = false;
    for (const control of controls) {
      const value = draft[control.id];
      if (typeof value === 'boolean' && control instanceof HTMLInputElement) {
        different ||= control.checked !== value;
        control.checked = value;
      } else if (typeof value === 'string') {
        different ||= control.value !== value;
        control.value = value;
      }
    }
    if (kept !== null) kept.hidden = !different;
  }

  function showCalls() {
    const { request, faults } = read();
    if (faults.length > 0) return;
    showCallsOf(/** @type {SubmitRequest} */ (request));
    const of = document.querySelector('[data-calls-of]');
    if (of !== null) of.textContent = 'with the values of the form';
  }

  function showChosen() {
    for (const button of form?.querySelectorAll('[data-fill]') ?? []) {
      if (!(button instanceof HTMLElement)) continue;
      const control = /** @type {Control | null} */ (document.getElementById(button.dataset['fill'] ?? ''));
      button.setAttribute('aria-pressed', String(control?.value.trim() === button.dataset['value']));
    }
  }

  // --- Dry run ---

  /**
   * @param {string} tag
   * @param {string | null} name its class
   * @param {...(Node | string)} content
   */
  function element(tag, name, ...content) {
    const made = document.createElement(tag);
    if (name !== null) made.className = name;
    made.append(...content);
    return made;
  }

  /** As `duration` in format.ts. @param {number} seconds */
  function span(seconds) {
    if (seconds < 10) return `${seconds.toFixed(1)} s`;
    if (seconds < 59.5) return `${Math.round(seconds)} s`;
    const [large, small, largeUnit, smallUnit] = seconds < 3_570 ? [60, 1, 'min', 's'] : seconds < 84_600 ? [3_600, 60, 'h', 'min'] : [86_400, 3_600, 'd', 'h'];
    const parts = Math.round(seconds / Number(small));
    const perLarge = Number(large) / Number(small);
    const rest = parts % perLarge;
    return `${Math.floor(parts / perLarge)} ${largeUnit}${rest === 0 ? '' : ` ${rest} ${smallUnit}`}`;
  }

  /** @param {string} at */
  function moment(at) {
    const time = /** @type {HTMLTimeElement} */ (element('time', null));
    time.dateTime = at;
    time.dataset['relative'] = 'expected'; // what was predicted to have happened by now may happen at any moment
    const ms = Date.parse(at) - Date.now();
    time.textContent = ms < 1_000 ? 'now' : `in ${span(ms / 1_000)}`;
    return time;
  }

  const waits = /** @type {Record<string, string>} */ ({
    waiting_model: 'its model has to be loaded first',
    behind: 'others come first',
    quantum: 'another model is served meanwhile',
    changing: 'a host is loading a model',
    no_room: 'no host has room for its model now',
    backing_off: 'a load of its model failed a moment ago',
    no_host: 'no host is ready for models',
    paused: 'the queue or its model is paused',
    waiting_dependency: 'other tasks have to complete first',
    waiting_lock: 'another task has its lock',
    waiting_resource: 'a resource is taken',
  });

  /** @param {number | null} seconds @param {[number, number] | null} between */
  const durationText = (seconds, between) =>
    seconds === null ? null : `about ${span(seconds)}${between === null ? '' : `, ${span(between[0])} to ${span(between[1])} in 80 of 100 cases`}`;

  /** @param {any} preview */
  function factsOf(preview) {
    const facts = element('dl', 'expected');
    /** @param {string} name @param {...(Node | string)} content */
    const fact = (name, ...content) => facts.append(element('dt', null, name), element('dd', null, ...content));
    fact(
      'Takes',
      durationText(preview.estimated_duration_seconds, preview.estimated_duration_interval) ?? 'not known: not all of its steps have run here before',
    );
    const why = waits[preview.waits_for];
    if (preview.estimated_start_time === null) fact('Would start', `cannot be told${why === undefined ? ' now' : `: ${why}`}`);
    else
      fact(
        'Would start',
        moment(preview.estimated_start_time),
        `${preview.queue_position === null ? '' : `, at place ${preview.queue_position} of what waits`}${why === undefined ? '' : `; ${why}`}`,
      );
    if (preview.estimated_completion_time !== null) fact('Would end', moment(preview.estimated_completion_time));
    if (preview.models.length > 0)
      fact(
        'Models',
        element('span', 'mono', preview.models.map((/** @type {any} */ { name, alias }) => (alias === null ? name : `${alias} (${name})`)).join(', ')),
      );
    return facts;
  }

  /** @param {string} name @param {unknown} value @param {string} [note] */
  function inputOf(name, value, note) {
    const text = typeof value === 'string' ? value : JSON.stringify(value, null, 2);
    const short = text.length <= 60 && !text.includes('\n');
    const label = element('dt', null, name, ...(note === undefined ? [] : [element('span', 'faint', ` ${note}`)]));
    const shown = element(short ? 'code' : 'pre', null, text);
    if (!short) shown.tabIndex = 0;
    return [label, element('dd', null, shown)];
  }

  /** @param {any} step */
  function stepOf(step) {
    const line = element('div', 'line', element('strong', null, step.id));
    if (step.type !== step.id) line.append(element('span', 'tag', step.type));
    if (step.model !== null) line.append(element('span', 'faint', 'on ', element('span', 'mono', step.model)));
    const took = durationText(step.estimated_duration_seconds, null);
    if (took !== null) line.append(element('span', 'faint took', took));
    const inputs = element('dl', 'inputs');
    for (const [name, value] of Object.entries(step.input)) inputs.append(...inputOf(name, value));
    for (const { path, template } of step.deferred) inputs.append(...inputOf(path.join('.'), template, 'known when earlier steps have ended'));
    return element('li', null, line, ...(step.when === null ? [] : [element('p', 'faint', 'Only when ', element('code', null, step.when))]), inputs);
  }

  /** @param {any} preview */
  function showPreview(preview) {
    const place = /** @type {HTMLElement} */ (document.getElementById('dry-run'));
    place.replaceChildren(
      element('header', null, element('h2', null, 'Dry run'), element('span', 'faint', 'what would run; nothing was stored')),
      element('div', 'body', factsOf(preview)),
      element('ol', 'plan', ...preview.steps.map(stepOf)),
    );
    place.hidden = false;
    place.focus({ preventScroll: true });
    place.scrollIntoView({ block: 'nearest' });
  }

  // --- Sending ---

  /** @type {{ body: string, key: string }} */
  let sent = { body: '', key: '' };

  /** One key for each thing that the form says, so that a second click on the same makes no second task. @param {string} body */
  function keyFor(body) {
    if (body !== sent.body) sent = { body, key: [...crypto.getRandomValues(new Uint8Array(16))].map((byte) => byte.toString(16).padStart(2, '0')).join('') };
    return sent.key;
  }

  /** @param {boolean} is */
  function sending(is) {
    for (const button of form?.querySelectorAll('.actions button') ?? []) /** @type {HTMLButtonElement} */ (button).disabled = is;
  }

  /** @param {'submit' | 'dry run'} what */
  async function send(what) {
    const { request, faults } = read();
    if (faults.length > 0) return showFaults(faults, '');
    clearFaults();
    sending(true);
    const dry = what === 'dry run';
    const answer = await call(
      'POST',
      dry ? '/api/v1/tasks?dry_run=true' : '/api/v1/tasks',
      request,
      dry ? {} : { 'Idempotency-Key': keyFor(JSON.stringify(request)) },
    );
    if (answer.ok && !dry) {
      forgetDraft();
      location.assign(`/tasks/${answer.body.id}`);
      return;
    }
    sending(false);
    if (answer.ok) showPreview(answer.body);
    else if (answer.status === 0) tell(problemText(answer.body), 'problem');
    else {
      /** @type {HTMLElement} */ (document.getElementById('dry-run')).hidden = true; // it was of something else
      showFaults(answer.body?.errors ?? [], answer.body?.detail ?? answer.body?.title ?? 'That failed; try again.');
    }
  }

  form.addEventListener('submit', (event) => {
    event.preventDefault();
    void send('submit');
  });
  form.addEventListener('click', (event) => {
    const target = event.target instanceof Element ? event.target : null;
    if (target?.closest('[data-dry-run]')) void send('dry run');
    const filling = target?.closest('[data-fill]');
    if (!(filling instanceof HTMLElement)) return;
    const control = /** @type {HTMLInputElement} */ (document.getElementById(filling.dataset['fill'] ?? ''));
    control.value = filling.dataset['value'] ?? '';
    control.dispatchEvent(new Event('input', { bubbles: true }));
  });
  form.addEventListener('input', (event) => {
    const field = event.target instanceof Element ? event.target.closest('.field') : null;
    if (field instanceof HTMLElement) mark(field);
    keepDraft();
    showChosen();
    showCalls();
  });
  form.addEventListener('reset', () => {
    window.setTimeout(() => {
      forgetDraft();
      clearFaults();
      showChosen();
      showCalls();
    });
  });
  // The page as it was left, from the browser's memory: another submission is another task.
  window.addEventListener('pageshow', (event) => {
    if (!event.persisted) return;
    sent = { body: '', key: '' };
    sending(false);
  });

  restoreDraft();
  showChosen();
  showCalls();
})();
