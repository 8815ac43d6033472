const base = 'http://here.invalid';

/** An address of this server to go on to; anything else is left out, so that a link leads nobody elsewhere. */
export function ownAddress(text: string | null | undefined): string {
  if (!text?.startsWith('/') || !URL.canParse(text, base)) return '/';
  const { origin, pathname, search } = new URL(text, base);
  // `/.//x` resolves to a path with two slashes in front, which is the name of another server to whoever reads it next.
  return origin === base && !pathname.startsWith('//') ? pathname + search : '/';
}
