import { parseRepositoryAddress } from '../activities/git/repository-address.js';
import { StepFailure } from '../contract/failure.js';
import type { Plan } from '../contract/plan.js';
import type { Fault } from '../contract/problems.js';

/**
 * Looks at the repositories that a plan clones, as far as they are known when it is submitted, so that an address that would be
 * refused later is refused now. One with a user, password or token is refused too: it would be kept with the task and in Temporal's
 * history. The clone itself checks again, and besides where the host's name leads.
 * @param schemes allowed, lower case
 * @returns faults without users and passwords
 */
export function repositoryFaults(plan: Plan, schemes: readonly string[]): Fault[] {
  return plan.steps.flatMap((step): Fault[] => {
    const repo = step.input['repo'];
    if (step.type !== 'git_clone' || typeof repo !== 'string' || step.deferred.some(({ path }) => path[0] === 'repo')) return [];
    const message = refusal(repo, schemes);
    if (message === null) return [];
    const parameter = Object.entries(plan.parameters).find(([, value]) => value === repo)?.[0];
    const path = parameter === undefined ? `steps.${step.id}.repo` : `parameters.${parameter}`;
    return [{ path, expected: `the address of a repository by ${schemes.join(', ')}`, got: `text of ${repo.length} characters`, message }];
  });
}

function refusal(repo: string, schemes: readonly string[]): string | null {
  try {
    const { scheme, authorization, shown } = parseRepositoryAddress(repo, schemes);
    // ssh has no password in its address, and its user is no secret.
    if (authorization === null && (scheme === 'ssh' || shown === repo)) return null;
    return `the repository ${JSON.stringify(shown.slice(0, 300))} is refused: a user, password or token in an address would be stored with the task; give the address without it, or by ssh, with a key of the user that runs the engine`;
  } catch (error) {
    if (error instanceof StepFailure) return error.message;
    throw error;
  }
}
