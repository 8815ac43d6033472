// Signs in with a password, a key, or the one-time ticket of the address, and goes on to the page that was asked for.
(() => {
  const form = /** @type {HTMLFormElement} */ (document.getElementById('sign-in'));
  const problem = /** @type {HTMLElement} */ (document.getElementById('problem'));

  /** @param {Record<string, string>} credentials */
  async function signIn(credentials) {
    problem.hidden = true;
    const answer = await fetch('/api/v1/sessions', {
      method: 'POST',
      headers: { 'Content-Type': 'application/json' },
      body: JSON.stringify(credentials),
    }).catch(() => null);
    if (answer?.ok) {
      location.replace(form.dataset['to'] ?? '/');
      return;
    }
    const told = await answer?.json().catch(() => null);
    problem.textContent = told?.detail ?? 'The server does not answer; try again.';
    problem.hidden = false;
  }

  form.addEventListener('submit', (event) => {
    event.preventDefault();
    const values = new FormData(form);
    const text = (/** @type {string} */ name) => String(values.get(name) ?? '').trim();
    void signIn(text('key') === '' ? { user: text('user'), password: String(values.get('password') ?? '') } : { key: text('key') });
  });

  const ticket = new URLSearchParams(location.search).get('ticket');
  if (ticket !== null) {
    history.replaceState(null, '', '/sign-in'); // used up, and nobody's to copy
    void signIn({ ticket });
  }
})();
