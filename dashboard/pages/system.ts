import type { Page } from '../page.js';

/** How the parts are, which versions run, and what is alerted of. */
export const systemPage: Page = {
  path: '/system',
  nav: 'system',
  access: 'read',
  view: 'system',
  live: ['models'],
  async load({ services }) {
    const [system, report] = await Promise.all([services.systemReport(), services.performanceReport(24)]);
    return { title: 'System', data: { system, report } };
  },
};
