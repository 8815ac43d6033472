// Loaded before the page is drawn, so that it never flashes in the other theme.
(() => {
  const themes = ['system', 'light', 'dark'];
  const root = document.documentElement;
  const read = () => {
    const kept = localStorage.getItem('theme');
    return kept !== null && themes.includes(kept) ? kept : 'system';
  };
  /** @param {string} theme */
  const show = (theme) => {
    if (theme === 'system') root.removeAttribute('data-theme');
    else root.setAttribute('data-theme', theme);
  };
  const words = { system: 'as the system', light: 'light', dark: 'dark' };
  /** @param {Element | null} button @param {string} theme */
  const tell = (button, theme) => {
    const text = `Theme: ${words[/** @type {keyof typeof words} */ (theme)]}`;
    button?.setAttribute('data-tip', text);
    button?.setAttribute('aria-label', text);
  };
  show(read());
  document.addEventListener('DOMContentLoaded', () => tell(document.querySelector('[data-theme-next]'), read()));
  document.addEventListener('click', (event) => {
    const button = event.target instanceof Element ? event.target.closest('[data-theme-next]') : null;
    if (button === null) return;
    const next = themes[(themes.indexOf(read()) + 1) % themes.length] ?? 'system';
    localStorage.setItem('theme', next);
    show(next);
    tell(button, next);
  });
})();
