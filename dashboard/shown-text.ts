import type { JsonValue } from '../contract/json.js';

/** What a page shows of a text that may be long. */
export interface ShownText {
  readonly text: string;
  /** characters that are left out behind it */
  readonly left: number;
}

/** The beginning of a text. */
export function shownText(text: string, charsMax: number): ShownText {
  if (text.length <= charsMax) return { text, left: 0 };
  // A pair of surrogates stays together.
  const end = /[\ud800-\udbff]$/.test(text.slice(0, charsMax)) ? charsMax - 1 : charsMax;
  return { text: text.slice(0, end), left: text.length - end };
}

/** The beginning of a value: a text as it is, anything else as JSON with line breaks. */
export function shownValue(value: JsonValue, charsMax: number): ShownText {
  return shownText(typeof value === 'string' ? value : JSON.stringify(value, null, 2), charsMax);
}
