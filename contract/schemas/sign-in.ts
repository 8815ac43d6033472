import { z } from 'zod';
import { roles } from '../roles.js';
import { passwordCharactersMax, passwordCharactersMin, userIdForm } from '../users.js';
import { Timestamp } from './task.js';

const RoleSchema = z.enum(roles).meta({ description: '`admin` may do everything, `user` sees and changes their own tasks, `viewer` looks at them' });
const UserId = z.string().regex(userIdForm, 'expected 1 to 50 of a-z, 0-9, ".", "_" and "-", a letter or digit first').meta({ example: 'ann' });
const NewPassword = z
  .string()
  .min(passwordCharactersMin, `expected at least ${passwordCharactersMin} characters`)
  .max(passwordCharactersMax, `expected at most ${passwordCharactersMax} characters`)
  .meta({ format: 'password' });
const GivenPassword = z.string().max(passwordCharactersMax, `expected at most ${passwordCharactersMax} characters`).meta({ format: 'password' });

export const SignIn = z
  .strictObject({
    user: z.string().min(1, 'expected the name of a user').max(200).optional(),
    password: GivenPassword.optional(),
    key: z.string().min(1, 'expected an API key').max(200).optional(),
    ticket: z.string().min(1, 'expected a ticket').max(200).optional(),
  })
  .refine(
    ({ user, password, key, ticket }) =>
      (user === undefined) === (password === undefined) && [user, key, ticket].filter((given) => given !== undefined).length === 1,
    'expected either user and password, or key, or ticket',
  )
  .meta({
    id: 'SignIn',
    description: 'Who signs in: `user` and `password`, or `key`, an API key, or `ticket`, which is valid once',
    example: { user: 'ann', password: 'correct horse battery' },
  });
export type SignInRequest = z.output<typeof SignIn>;

export const SessionOpened = z.object({ user_id: z.string(), role: RoleSchema, expires_at: Timestamp }).meta({
  id: 'SessionOpened',
  description: 'Who has signed in; the session itself is in the cookie',
  example: { user_id: 'ann', role: 'user', expires_at: '2026-01-10T10:30:00.000Z' },
});

export const CurrentCaller = z
  .object({
    user_id: z.string(),
    role: RoleSchema,
    by: z.enum(['session', 'key', 'password']).meta({ description: 'What the request came with' }),
    expires_at: Timestamp.nullable().meta({ description: 'When the session ends unless it is used until then; null: there is none' }),
    has_password: z.boolean().meta({ description: 'Whether there is a password of this user, which could be changed' }),
  })
  .meta({
    id: 'CurrentCaller',
    description: 'Who asks',
    example: { user_id: 'ann', role: 'user', by: 'session', expires_at: '2026-01-10T10:30:00.000Z', has_password: true },
  });
export type CurrentCallerView = z.output<typeof CurrentCaller>;

export const SignInTicket = z.object({ ticket: z.string(), expires_at: Timestamp }).meta({
  id: 'SignInTicket',
  description: 'Opens one session: in a browser at `/sign-in#ticket=<ticket>`',
  example: { ticket: 'ort_3q2-7wAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA', expires_at: '2026-01-09T10:40:00.000Z' },
});
export type SignInTicketView = z.output<typeof SignInTicket>;

export const User = z.object({ id: UserId, role: RoleSchema, disabled: z.boolean().meta({ description: 'May not sign in' }), created_at: Timestamp }).meta({
  id: 'User',
  description: 'Somebody who signs in with a password',
  example: { id: 'ann', role: 'user', disabled: false, created_at: '2026-01-09T10:30:00.000Z' },
});
export type UserView = z.output<typeof User>;

export const UserList = z.object({ items: z.array(User) }).meta({ id: 'UserList', description: 'Every user, by name' });
export type UserListView = z.output<typeof UserList>;

export const CreateUser = z
  .strictObject({ id: UserId, role: RoleSchema, password: NewPassword })
  .meta({ id: 'CreateUser', description: 'A user to add', example: { id: 'ann', role: 'user', password: 'correct horse battery' } });
export type CreateUserRequest = z.output<typeof CreateUser>;

export const ChangeUser = z
  .strictObject({ role: RoleSchema.optional(), password: NewPassword.optional(), disabled: z.boolean().optional() })
  .refine((change) => Object.values(change).some((value) => value !== undefined), 'expected role, password or disabled')
  .meta({ id: 'ChangeUser', description: 'What is to change of a user', example: { role: 'viewer' } });
export type ChangeUserRequest = z.output<typeof ChangeUser>;

export const ChangePassword = z.strictObject({ present: GivenPassword, new: NewPassword }).meta({
  id: 'ChangePassword',
  description: 'The present password and the new one',
  example: { present: 'correct horse battery', new: 'staple correct horse' },
});
export type ChangePasswordRequest = z.output<typeof ChangePassword>;
