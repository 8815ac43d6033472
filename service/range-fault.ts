/** What is wrong with a range of time in which no time lies; null: nothing. @param path where its begin stands in the request */
export function rangeFault(path: string, what: 'created' | 'ended', after: Date | null, before: Date | null) {
  if (after === null || before === null || after < before) return null;
  return { path, expected: `a time before ${what}_before`, got: after.toISOString(), message: 'The range is empty.' };
}
