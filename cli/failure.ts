import { ApiProblem, ApiUnreachable } from '../client/problem.js';
import { visibleLine, visibleText } from './visible.js';

/** What a command ends with; scripts may rely on it. */
export const exitCodes = { success: 0, failed: 1, usage: 2, notFound: 3, unreachable: 4, interrupted: 130 } as const;

/** A command cannot go on, for a reason that its caller can do something about. The message is one sentence with the remedy. */
export class CliFailure extends Error {
  readonly exitCode: number;

  constructor(exitCode: number, message: string) {
    super(message);
    this.exitCode = exitCode;
  }
}

export const usageFault = (message: string) => new CliFailure(exitCodes.usage, message);

/** Ctrl-C while something was waited for. */
export class Interrupted extends CliFailure {
  constructor(message: string) {
    super(exitCodes.interrupted, message);
  }
}

const remedies: Readonly<Record<string, string>> = {
  unauthorized: 'Give a valid key with --key <file> or ORCHESTRA_KEY.',
  forbidden: 'Use the key of somebody who may, with --key <file> or ORCHESTRA_KEY.',
  task_not_found: '`orchestra list` shows the tasks there are.',
  template_not_found: '`orchestra templates` shows those there are.',
  unknown_template: '`orchestra templates` shows those there are.',
  unknown_model: '`orchestra models` shows those there are; `orchestra models pull <name>` fetches one.',
  unknown_checkpoint: '`orchestra checkpoint list` shows those there are.',
  unknown_user: '`orchestra users list` shows those there are.',
  task_finished: '`orchestra retry <id>` runs a failed or cancelled task again, `orchestra replay <id>` any.',
  task_not_retryable: '`orchestra replay <id>` runs the same input again as a new task.',
  not_found: 'The server is older than this command, or --api names something else.',
  unexpected_answer: 'Check the address that --api or ORCHESTRA_API names.',
  unavailable: 'Try again; `orchestra doctor` says what is missing.',
};

function exitCodeOf(problem: ApiProblem): number {
  if (problem.status === 401 || problem.status === 403 || problem.status >= 500 || problem.status === 429) return exitCodes.unreachable;
  if (problem.status === 404) return exitCodes.notFound;
  return problem.status === 409 ? exitCodes.failed : exitCodes.usage;
}

/** What to say of an error, line by line, and the exit code. Never a stack: whoever wants one looks into the server's log by the request id. */
export function describeFailure(error: unknown, address: string | null): { readonly lines: readonly string[]; readonly exitCode: number } {
  if (error instanceof CliFailure) return { lines: [visibleText(error.message)], exitCode: error.exitCode };
  if (error instanceof ApiUnreachable) {
    return {
      lines: [`${error.message}. Start an installation with \`orchestra up\`, or name its address with --api or ORCHESTRA_API.`],
      exitCode: exitCodes.unreachable,
    };
  }
  if (error instanceof ApiProblem) {
    const retry = error.retryAfterSeconds === null ? '' : ` Try again in ${error.retryAfterSeconds} s.`;
    const remedy = remedies[error.code] === undefined ? '' : ` ${remedies[error.code]}`;
    const places = error.errors.map(
      ({ path, message, expected, got }) => `  ${path === '' ? '' : `${path}: `}${message || `expected ${expected}, got ${got}`}`,
    );
    const request = error.requestId === null ? [] : [`  request ${error.requestId}${address === null ? '' : ` to ${address}`}`];
    return { lines: [`${error.detail} [${error.code}]${remedy}${retry}`, ...places, ...request].map(visibleLine), exitCode: exitCodeOf(error) };
  }
  const code = (error as NodeJS.ErrnoException | null)?.code;
  const message = error instanceof Error ? error.message : String(error);
  return { lines: [visibleLine(message)], exitCode: typeof code === 'string' ? exitCodes.usage : exitCodes.failed };
}
