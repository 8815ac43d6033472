// The form that fetches a model.
(() => {
  const { call, tell, soon, problemText } = window.orchestra;
  document.addEventListener('submit', async (event) => {
    const form = event.target;
    if (!(form instanceof HTMLFormElement) || form.id !== 'pull') return;
    event.preventDefault();
    const values = new FormData(form);
    const model = String(values.get('model') ?? '').trim();
    const host = values.get('host');
    const answer = await call('POST', `/api/v1/models/${encodeURIComponent(model)}/pull`, host === null ? {} : { host: String(host) });
    tell(answer.ok ? `${model} is being fetched.` : problemText(answer.body), answer.ok ? 'done' : 'problem');
    if (answer.ok) form.reset();
    soon();
  });
})();
