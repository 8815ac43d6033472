import { Command } from 'commander';
import type { Runtime } from './command.js';
import { commands } from './commands/index.js';
import { exitCodes } from './failure.js';

/** The command line with all its commands; opens nothing. */
export function createProgram(runtime: Runtime): Command {
  const program = new Command('orchestra')
    .description('AI Task Orchestra: queues, schedules and runs AI tasks on local models, durably.')
    .version(runtime.version())
    .option('--api <url>', 'address of the API (default: ORCHESTRA_API, else the installation in ORCHESTRA_HOME)')
    .option('--key <file>', 'file with an API key (default: ORCHESTRA_KEY, else admin.key of the installation)')
    .option('--json', "print the API's own answer, for scripts")
    .option('--quiet', 'print nothing beside the answer')
    .option('--no-color', 'print without colors')
    .showHelpAfterError('Add --help to see what there is.')
    .exitOverride((error) => process.exit(error.exitCode === 0 ? 0 : exitCodes.usage));
  for (const add of commands) add(program, runtime);
  inheritExits(program);
  return program;
}

/** Mistakes of usage end with 2, as those of the configuration do, in every command. */
function inheritExits(command: Command): void {
  for (const sub of command.commands) {
    sub.copyInheritedSettings(command);
    inheritExits(sub);
  }
}
