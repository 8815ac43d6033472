/**
 * Makes Markdown of unknown origin inert for whoever shows it: no image is loaded, no HTML begins, and a link leads nowhere but to the web, to a mail
 * address or to a place beside it. What is taken from the text stays visible in it. Character references are used, not backslashes, since a
 * backslash before would undo a backslash.
 * Blocks of code between fences are left as they are where their fence stands at the beginning of a line: nothing in them has a meaning.
 * @see https://spec.commonmark.org/0.31.2/
 */
export function inertMarkdown(text: string): string {
  const parts: string[] = [];
  let open: string[] = [];
  let fence: string | null = null;
  const close = (): void => {
    parts.push(...(fence === null ? [inertInline(open.join(''))] : open));
    open = [];
  };
  // Line endings as CommonMark has them, kept with their lines.
  for (const line of text.split(/(?<=\n)|(?<=\r)(?!\n)/)) {
    const content = line.replace(/[\r\n]+$/, '');
    if (fence === null) {
      const begins = /^(?:(`{3,})[^`]*|(~{3,}).*)$/s.exec(content);
      if (begins) {
        close();
        fence = begins[1] ?? begins[2] ?? '';
      }
      open.push(line);
    } else {
      open.push(line);
      const mark = /^ {0,3}(`{3,}|~{3,})[ \t]*$/.exec(content)?.[1];
      if (mark !== undefined && mark[0] === fence[0] && mark.length >= fence.length) {
        close();
        fence = null;
      }
    }
  }
  close();
  return parts.join('');
}

/** As {@link inertMarkdown}, for a text that will stand inside a list, where a fence may end with its item. */
export function inertInline(text: string): string {
  return text.replaceAll(tagStart, '&lt;').replaceAll('![', '&#33;[').replaceAll(linkStart, ']&#40;').replaceAll(referenceStart, ']&#58;');
}

/** Addresses that a link may have: of the web, of mail, of a place beside the text. Anything that needs a second look is none. */
const linkStart = new RegExp(String.raw`\]\((?!\s*(?:https?://|mailto:|#|(?!//)[\w./-]+[)\s?#]|\)))`, 'gi');
const referenceStart = new RegExp(String.raw`\]:(?!\s*(?:https?://|mailto:|#|(?!//)[\w./-]+(?:[\s?#]|$)|$))`, 'gi');

/** Elements that do something, or hide what follows, without any attribute. */
const active =
  'audio|base|body|button|embed|form|frame|frameset|head|html|iframe|image|img|input|link|math|meta|noembed|noframes|noscript|object|plaintext|script|select|style|svg|template|textarea|title|video|xmp';
/** Where HTML, or a link in angle brackets, could begin. Type arguments as in `List<String>` are none of that. */
const tagStart = new RegExp(`(?<!\\w)<(?=[a-z!?/])|<(?=[a-z!?/])(?!(?!(?:${active})>)[a-z]\\w*>)`, 'gi');
