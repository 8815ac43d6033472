/** A place in a template's file; line and column count from 1. */
export interface Position {
  readonly file: string;
  readonly line: number;
  readonly column: number;
}

/** One thing that is wrong with a template's file. */
export interface TemplateFault extends Position {
  /** id of the step, or its type where the id is not known yet; null outside of the steps */
  readonly step: string | null;
  /** where in the document, such as `steps[1].model`; empty for the document itself */
  readonly path: string;
  /** the whole sentence, beginning with `file:line:column` */
  readonly message: string;
  /** what may stand there, where that is a list */
  readonly allowed?: readonly string[];
}

/** One thing that is wrong with a submission, as `errors[]` of the answer carries it. */
export interface SubmissionFault {
  /** `parameters.<name>`, or `steps.<id>.<field>` when no single parameter is at fault */
  readonly path: string;
  readonly expected: string;
  readonly got: string;
  readonly message: string;
}

export type YamlPath = readonly (string | number)[];

/** A path as people write it: `steps[1].retry.max_attempts`. */
export function pathText(path: YamlPath): string {
  return path.map((part, index) => (typeof part === 'number' ? `[${part}]` : index === 0 ? part : `.${part}`)).join('');
}

export function templateFault(at: Position, text: string, details: { step?: string | null; path?: YamlPath; allowed?: readonly string[] } = {}): TemplateFault {
  const step = details.step ?? null;
  const { file, line, column } = at;
  const message = `${file}:${line}:${column}: ${step === null ? '' : `step "${step}": `}${text}`;
  return { file, line, column, step, path: pathText(details.path ?? []), message, ...(details.allowed && { allowed: details.allowed }) };
}
