import { spawn } from 'node:child_process';
import { type AddCommand, act } from '../command.js';

export const addDashboard: AddCommand = (program) => {
  program
    .command('dashboard')
    .description('print an address that opens the dashboard, signed in with the rights of the key; valid once, for 10 minutes')
    .option('--open', 'open it in a browser of this machine', false)
    .action(
      act<[], { open: boolean }>(async (session, { open }) => {
        const client = await session.client();
        const { ticket, expires_at: expiresAt } = await client.signInTicket();
        const url = `${client.baseUrl}/sign-in#ticket=${encodeURIComponent(ticket)}`;
        if (session.json) session.printJson({ url, expires_at: expiresAt });
        else session.terminal.print(url);
        if (open && !(await opened(url))) session.terminal.note('No browser can be opened from here: open the address above in one.');
      }),
    );
};

/** Whether the desktop of this machine has taken the address. */
async function opened(url: string): Promise<boolean> {
  return new Promise((resolve) => {
    const child = spawn(process.platform === 'darwin' ? 'open' : 'xdg-open', [url], { stdio: 'ignore', detached: true });
    child.once('error', () => resolve(false));
    child.once('exit', (code) => resolve(code === 0));
    // Some of them end with the browser.
    setTimeout(() => resolve(true), 3_000).unref();
    child.unref();
  });
}
