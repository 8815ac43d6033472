import type { Plan } from '../contract/plan.js';
import { ProblemError } from '../contract/problems.js';
import type { CreateTaskRequest } from '../contract/schemas/task.js';
import type { Catalogue } from '../templates/catalogue.js';
import { type CompileOptions, compileTask, planBytesMax } from '../templates/compile.js';
import { checkParameters } from '../templates/parameters.js';
import { repositoryFaults } from './check-repositories.js';
import { matchesFor, type PatternThread } from './pattern-thread.js';

/** The templates of this moment; asked anew for each task, since they may be loaded again. */
export type CatalogueNow = () => Catalogue;

/** What the deployment says about steps. */
export type Deployment = CompileOptions['deployment'] & {
  /** whether missing models are pulled; default: yes */
  readonly mayPull?: boolean | undefined;
  /** schemes of repository addresses, lower case */
  readonly gitSchemes: readonly string[];
};

/**
 * The plan of a request. Patterns of its template are tried in another thread.
 * @throws {ProblemError} template_not_found, payload_too_large, invalid_parameters with every fault
 */
export async function compileRequest(catalogue: Catalogue, deployment: Deployment, patterns: PatternThread, request: CreateTaskRequest): Promise<Plan> {
  const entry = catalogue.get(request.template);
  if (entry === undefined) throw templateNotFound(catalogue, request.template);
  if (Buffer.byteLength(JSON.stringify(request.parameters)) > planBytesMax) {
    throw new ProblemError('payload_too_large', `Parameters may have at most ${planBytesMax} bytes.`);
  }
  const { parameters } = entry.template;
  const match = parameters.some(({ pattern }) => pattern !== undefined)
    ? (await matchesFor(patterns, (noted) => checkParameters(parameters, request.parameters, noted))).match
    : undefined;
  const compiled = compileTask(entry.template, request.parameters, { deployment, retry: request.retry, limits: request.limits, match });
  const faults = 'plan' in compiled ? repositoryFaults(compiled.plan, deployment.gitSchemes) : compiled.faults;
  if ('plan' in compiled && faults.length === 0) return compiled.plan;
  throw new ProblemError('invalid_parameters', faults[0]?.message ?? 'The parameters do not fit the template.', { errors: faults });
}

function templateNotFound(catalogue: Catalogue, name: string): ProblemError {
  const suggested = catalogue.suggest(name);
  const known = catalogue.list().map(({ template }) => template.name);
  const detail = `There is no template "${name}"${suggested === undefined ? '.' : `; did you mean "${suggested}"?`}`;
  return new ProblemError('template_not_found', detail, {
    errors: [{ path: 'template', expected: `one of ${known.join(', ')}`, got: name, message: detail }],
  });
}
