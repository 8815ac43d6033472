/**
 * Why something was decided of the models of a host, as a sentence for people: keys are for machines, and who asked for it is for administrators to know.
 * @param requestedBy who asked for it; null: nobody, the policy decided
 * @param withName whether the caller may see who that was
 */
export function orderReason(reason: string, requestedBy: string | null, withName: boolean): string {
  const told = reason.replaceAll(/~ctx\d+/g, '');
  return requestedBy === null ? told : `${told}, asked for by ${withName ? requestedBy : 'an administrator'}`;
}
