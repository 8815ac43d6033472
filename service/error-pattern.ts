/** What differs between failures that have the same cause, and what stands for it; in this order. */
const varying: readonly (readonly [form: RegExp, stands: string])[] = [
  [/\b\d{4}-\d\d-\d\d[T ]\d\d:\d\d(?::\d\d(?:\.\d+)?)?(?:Z|[+-]\d\d:?\d\d)?/g, '<time>'],
  [/\b[a-z][a-z0-9+.-]{1,15}:\/\/[^\s"'<>()]+/gi, '<url>'],
  [/(?<![\w.<])(?:~|\.{1,2})?(?:\/[\w.@%+:~-]+)+\/?/g, '<path>'],
  [/\b[A-Za-z]:\\[^\s"'<>|]+/g, '<path>'],
  [/\b[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b/gi, '<id>'],
  [/\b(?:sha256:)?(?=[0-9a-f]*\d)(?=[0-9a-f]*[a-f])[0-9a-f]{8,}\b/gi, '<id>'],
  [/\b\d{1,3}(?:\.\d{1,3}){3}(?::\d+)?\b/g, '<address>'],
  [/(?<![\w.:])-?\d+(?:[.,:]\d+)*/g, '<n>'],
];

/** Characters of a message that are looked at. */
const charsMax = 300;

/**
 * The message of an error without what differs from task to task: ids, times, addresses, paths and numbers. Numbers within a word, as in `llama3.1:8b`, stay.
 * @param message of any length; its beginning counts
 */
export function errorPattern(message: string): string {
  // A cut in the middle of an id would leave a piece that is none, so a last word that was cut is left out.
  const cut = message.length > charsMax ? `${message.slice(0, charsMax).replace(/\S+$/, '')}…` : message;
  const line = cut.replace(/\s+/g, ' ').trim();
  return varying.reduce((text, [form, stands]) => text.replace(form, stands), line);
}
