import { ProblemError } from '../../contract/problems.js';
import { ChangePassword } from '../../contract/schemas/sign-in.js';
import { passwordCharactersMax, passwordCharactersMin } from '../../contract/users.js';
import { formOf } from '../form.js';
import type { Page } from '../page.js';

/** Who one is here, and one’s own password. */
export const accountPage: Page = {
  path: '/account',
  nav: null,
  access: 'read',
  view: 'account',
  live: [],
  async load({ services, caller, url }) {
    const current = await services.currentCaller(caller);
    const done = url.searchParams.get('done') === 'password' ? 'Your password is changed. Your other sessions have ended.' : null;
    return { title: 'Account', data: { current, done, charactersMin: passwordCharactersMin, charactersMax: passwordCharactersMax } };
  },
  async submit({ services, caller, requestId }, form) {
    const passwords = formOf(
      ChangePassword,
      { present: form.get('present') ?? '', new: form.get('new') ?? '' },
      { present: 'Present password', new: 'New password' },
    );
    if (form.get('again') !== passwords.new) throw new ProblemError('invalid_request', 'The two new passwords differ.');
    await services.changeOwnPassword(caller, passwords, requestId);
    return '/account?done=password';
  },
};
