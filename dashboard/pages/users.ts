import { z } from 'zod';
import { roles } from '../../contract/roles.js';
import { ChangeUser, CreateUser } from '../../contract/schemas/sign-in.js';
import { passwordCharactersMax, passwordCharactersMin, userIdForm } from '../../contract/users.js';
import { formOf } from '../form.js';
import type { Page } from '../page.js';
import { queryOf } from '../query.js';

/** What the page tells when a form was carried out, of the user it was about. */
const told = {
  added: (user: string) => `${user} may sign in now.`,
  role: (user: string) => `The role of ${user} is changed.`,
  password: (user: string) => `The password of ${user} is changed, and their sessions have ended.`,
  disabled: (user: string) => `${user} may not sign in any more, and their sessions have ended.`,
  enabled: (user: string) => `${user} may sign in again.`,
  removed: (user: string) => `${user} is removed. Their tasks stay.`,
} as const;
type Done = keyof typeof told;

const Query = z.object({ done: z.enum(Object.keys(told) as [Done, ...Done[]]).optional(), user: z.string().regex(userIdForm).default('nobody') });
const Action = z.enum(['add', 'role', 'password', 'disable', 'enable', 'remove']);
const names = { id: 'User', role: 'Role', password: 'Password', action: 'Action' };

/** Everybody who signs in with a password, for administrators. */
export const usersPage: Page = {
  path: '/users',
  nav: null,
  access: 'admin',
  view: 'users',
  live: [],
  async load({ services, url }) {
    const { done, user } = queryOf(Query, url);
    const { items } = await services.listUsers();
    return {
      title: 'Users',
      data: {
        users: items,
        done: done === undefined ? null : told[done](user),
        roles,
        charactersMin: passwordCharactersMin,
        charactersMax: passwordCharactersMax,
      },
    };
  },
  async submit({ services, caller, requestId }, form) {
    const { action } = formOf(z.object({ action: Action }), { action: form.get('action') }, names);
    const id = form.get('user') ?? '';
    const goOn = (done: Done) => `/users?${new URLSearchParams({ done, user: id })}`;
    const change = async (fields: object, done: Done) => {
      await services.changeUser(caller, id, formOf(ChangeUser, fields, names), requestId);
      return goOn(done);
    };
    switch (action) {
      case 'add':
        await services.createUser(caller, formOf(CreateUser, { id, role: form.get('role'), password: form.get('password') ?? '' }, names), requestId);
        return goOn('added');
      case 'role':
        return change({ role: form.get('role') }, 'role');
      case 'password':
        return change({ password: form.get('password') ?? '' }, 'password');
      case 'disable':
        return change({ disabled: true }, 'disabled');
      case 'enable':
        return change({ disabled: false }, 'enabled');
      case 'remove':
        await services.removeUser(caller, id, requestId);
        return goOn('removed');
    }
  },
};
