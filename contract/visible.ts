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

/**
 * JSON for people and programs: the same document, with what JSON leaves unescaped and a terminal would obey spelled `\\u....`.
 * @param indent spaces of a level; 0: all on one line
 */
export function visibleJson(document: unknown, indent = 2): string {
  return JSON.stringify(document, null, indent).replace(hidden, (char) => (char === '\n' ? char : `\\u${char.charCodeAt(0).toString(16).padStart(4, '0')}`));
}
