import type { Command } from 'commander';
import { describeFailure } from './failure.js';
import { type GlobalOptions, openSession, type Session } from './session.js';

/** What commands get from the program they are part of. */
export interface Runtime {
  /** path of main.ts or main.js */
  readonly cli: string;
  version(): string;
  /** Runs a function of a main, which is loaded by its path when it is asked for. */
  main(name: string, run: string, ...args: readonly unknown[]): Promise<void>;
}

/** Adds one command, or one with its subcommands. */
export type AddCommand = (program: Command, runtime: Runtime) => void;

/** An action that works with a session; whatever goes wrong is told in a sentence on standard error and by the exit code. */
export function act<Args extends readonly unknown[], Options>(work: (session: Session, options: Options, ...args: Args) => Promise<void>) {
  return async (...given: unknown[]): Promise<void> => {
    const command = given.pop() as Command;
    const options = given.pop() as Options;
    const session = openSession(command.optsWithGlobals<GlobalOptions>());
    try {
      await work(session, options, ...(given as unknown as Args));
    } catch (error) {
      const { lines, exitCode } = describeFailure(error, session.address());
      process.stderr.write(`${pathOf(command)}: ${lines.join('\n')}\n`);
      process.exitCode = exitCode;
    }
  };
}

/** The words that lead to a command: `orchestra models pull`. */
export function pathOf(command: Command): string {
  return command.parent === null ? command.name() : `${pathOf(command.parent)} ${command.name()}`;
}

/** For options that may be given several times. */
export const collect = (value: string, before: readonly string[] = []): readonly string[] => [...before, value];
