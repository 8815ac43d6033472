// Orders of models: each is followed to its end, which is told; a page that is opened meanwhile shows in the card of the host what became of it.
(() => {
  const { call, tell, soon, problemText } = window.orchestra;
  const followEveryMs = 1_000;
  const words = /** @type {const} */ ({
    load: { begun: 'Loading', done: 'is loaded', failed: 'could not be loaded' },
    unload: { begun: 'Unloading', done: 'is unloaded', failed: 'could not be unloaded' },
    pull: { begun: 'Fetching', done: 'is fetched', failed: 'could not be fetched' },
  });

  /** @param {'load' | 'unload' | 'pull'} action @param {any} order */
  function tellEnd(action, { model, host, state, error }) {
    if (state === 'done') tell(`${model} ${words[action].done} on ${host}.`, 'done');
    else tell(`${model} ${words[action].failed} on ${host}: ${error?.message ?? 'the reason is not known'}.`, 'problem');
    soon();
  }

  /** @param {'load' | 'unload' | 'pull'} action @param {string} id */
  async function follow(action, id) {
    for (;;) {
      await new Promise((resolve) => {
        window.setTimeout(resolve, followEveryMs);
      });
      const { ok, status, body } = await call('GET', `/api/v1/model-orders/${id}`);
      if (ok && body.state !== 'open') return tellEnd(action, body);
      if (!ok && status !== 0 && status < 500) return tell(problemText(body), 'problem');
    }
  }

  /**
   * @param {'load' | 'unload' | 'pull'} action @param {string} model @param {string | undefined} host
   * @returns {Promise<boolean>} whether it was accepted
   */
  async function order(action, model, host) {
    const answer = await call('POST', `/api/v1/models/${encodeURIComponent(model)}/${action}`, host === undefined ? {} : { host });
    if (!answer.ok) tell(problemText(answer.body), 'problem');
    else if (answer.body.state !== 'open') tellEnd(action, answer.body);
    else {
      tell(`${words[action].begun} ${answer.body.model}…`, 'done');
      void follow(action, answer.body.order_id);
    }
    soon();
    return answer.ok;
  }

  document.addEventListener('click', async (event) => {
    const button = event.target instanceof Element ? event.target.closest('[data-order]') : null;
    if (!(button instanceof HTMLButtonElement)) return;
    const { order: action, model = '', host } = button.dataset;
    if (action !== 'load' && action !== 'unload') return;
    button.disabled = true;
    await order(action, model, host);
    button.disabled = false;
  });

  document.addEventListener('submit', async (event) => {
    const form = event.target;
    if (!(form instanceof HTMLFormElement) || form.id !== 'pull') return;
    event.preventDefault();
    const values = new FormData(form);
    const host = values.get('host');
    if (await order('pull', String(values.get('model') ?? '').trim(), host === null ? undefined : String(host))) form.reset();
  });
})();
