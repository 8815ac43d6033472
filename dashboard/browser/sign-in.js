// Signs in with the ticket of an address, and goes on where somebody has signed in already. Everything else on this page works without scripts.
(() => {
  function start() {
    // Behind the `#`, where no server and no log sees it.
    const ticket = new URLSearchParams(location.hash.slice(1)).get('ticket');
    const form = document.getElementById('with-ticket');
    const field = form?.querySelector('[name="ticket"]');
    if (ticket !== null && form instanceof HTMLFormElement && field instanceof HTMLInputElement) {
      history.replaceState(null, '', location.pathname + location.search); // used up, and nobody's to copy
      field.value = ticket;
      form.submit();
      return;
    }
    const onward = document.querySelector('a[data-go-on]');
    if (onward instanceof HTMLAnchorElement && onward.origin === location.origin) location.replace(onward.href);
  }
  window.addEventListener('hashchange', start);
  start();
})();
