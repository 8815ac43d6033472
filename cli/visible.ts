// Controls of the terminal (C0, DEL, C1), and what reorders or hides text around it. Names, logs and what a model writes come from anywhere: printed as they are
// they could retitle the window, write into the clipboard (OSC 52), or make a line look like another.
const hidden = /[\p{Cc}\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u2069\ufeff]/gu;

function name(char: string): string {
  const code = char.codePointAt(0) ?? 0;
  return code < 0x100 ? `\\x${code.toString(16).padStart(2, '0')}` : `\\u${code.toString(16).padStart(4, '0')}`;
}

/** A text on one line, with everything invisible spelled out. */
export function visibleLine(text: string): string {
  return text.replace(hidden, (char) => (char === '\n' ? '\\n' : char === '\t' ? ' ' : name(char)));
}

/** A text of several lines: line ends and tabs stay, everything else invisible is spelled out. */
export function visibleText(text: string): string {
  return text.replace(/\r\n?/g, '\n').replace(hidden, (char) => (char === '\n' || char === '\t' ? char : name(char)));
}

/** JSON for people and programs: the same document, with what JSON leaves unescaped and a terminal would obey spelled `\\u....`. */
export function visibleJson(document: unknown): string {
  return JSON.stringify(document, null, 2).replace(hidden, (char) => (char === '\n' ? char : `\\u${char.charCodeAt(0).toString(16).padStart(4, '0')}`));
}

const wide = /[\u1100-\u115f\u2e80-\ua4cf\uac00-\ud7a3\uf900-\ufaff\ufe30-\ufe6f\uff00-\uff60\uffe0-\uffe6]|\p{Emoji_Presentation}|[\u{20000}-\u{3fffd}]/u;
const segments = new Intl.Segmenter();

/** Columns that a visible text takes in a terminal. */
export function columnsOf(text: string): number {
  if (/^[\x20-\x7e]*$/.test(text)) return text.length;
  let columns = 0;
  for (const { segment } of segments.segment(text)) columns += wide.test(segment) ? 2 : 1;
  return columns;
}

/** Cuts a visible text to so many columns, with `…` where something was left out. */
export function fit(text: string, columns: number): string {
  if (columnsOf(text) <= columns) return text;
  let kept = '';
  let used = 1;
  for (const { segment } of segments.segment(text)) {
    used += columnsOf(segment);
    if (used > columns) break;
    kept += segment;
  }
  return `${kept}…`;
}
