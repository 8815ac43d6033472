import { Option } from 'commander';
import type { UserView } from '../../contract/schemas/sign-in.js';
import { roles, type Role } from '../../contract/roles.js';
import { askNewPassword } from '../ask-password.js';
import { type AddCommand, act } from '../command.js';
import { moment } from '../moments.js';
import type { Session } from '../session.js';
import { type Column, printTable } from '../terminal.js';

const columns = (nowMs: number): readonly Column<UserView>[] => [
  { title: 'USER', value: ({ id }) => id },
  { title: 'ROLE', value: ({ role }) => role },
  { title: 'STATE', value: ({ disabled }) => (disabled ? 'disabled' : 'may sign in') },
  { title: 'SINCE', value: ({ created_at }) => moment(created_at, nowMs), plain: ({ created_at }) => created_at },
];

export const addUsers: AddCommand = (program) => {
  const users = program.command('users').description('people who sign in with a password; for administrators');
  users
    .command('list')
    .description('list them')
    .action(
      act<[], object>(async (session) => {
        const list = await (await session.client()).users.list();
        if (session.json) return session.printJson(list);
        if (list.items.length === 0) session.terminal.note('There are no users: `orchestra users add <name>` adds one.');
        printTable(session.terminal, columns(Date.now()), list.items);
      }),
    );
  users
    .command('add <name>')
    .description('add somebody; the password is asked for, or read from standard input')
    .addOption(new Option('--role <role>', 'what the user may do').choices(roles).default('user'))
    .action(
      act<[string], { role: Role }>(async (session, { role }, name) => {
        const client = await session.client();
        tell(session, await client.users.create({ id: name, role, password: await askNewPassword(name) }), 'may sign in');
      }),
    );
  users
    .command('passwd <name>')
    .description('set another password, which ends the sessions of the user')
    .action(
      act<[string], object>(async (session, _options, name) => {
        const client = await session.client();
        tell(session, await client.users.change(name, { password: await askNewPassword(name) }), 'has another password, and signs in with it anew');
      }),
    );
  users
    .command('role <name> <role>')
    .description('set what a user may do, open sessions included: admin, user or viewer')
    .action(
      act<[string, Role], object>(async (session, _options, name, role) => {
        tell(session, await (await session.client()).users.change(name, { role }), `has the role ${role}`);
      }),
    );
  for (const [command, disabled, description, told] of [
    ['disable', true, 'let a user sign in no more, and end the sessions', 'signs in no more; API keys of this name stay valid until they are revoked'],
    ['enable', false, 'let a user sign in again', 'may sign in again'],
  ] as const) {
    users
      .command(`${command} <name>`)
      .description(description)
      .action(act<[string], object>(async (session, _options, name) => tell(session, await (await session.client()).users.change(name, { disabled }), told)));
  }
  users
    .command('remove <name>')
    .description('remove a user and end the sessions; tasks and API keys of the name stay')
    .action(
      act<[string], object>(async (session, _options, name) => {
        await (await session.client()).users.remove(name);
        session.terminal.note(`${name} is removed; API keys of this name stay valid until they are revoked.`);
      }),
    );
};

function tell(session: Session, user: UserView, what: string): void {
  if (session.json) session.printJson(user);
  else session.terminal.note(`${user.id} ${what}.`);
}
