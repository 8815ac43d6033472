import {
  Alias,
  CST,
  isAlias,
  isCollection,
  isMap,
  isPair,
  isScalar,
  isSeq,
  Lexer,
  LineCounter,
  parseAllDocuments,
  visit,
  type Document,
  type Node,
} from 'yaml';
import type { JsonObject, JsonValue } from '../contract/json.js';
import { templateFault, type Position, type TemplateFault, type YamlPath } from './fault.js';

export const yamlBytesMax = 64 * 1024;
export const yamlDepthMax = 64;
/** Bounds the check for duplicate keys, which takes quadratic time: 64 KB of `k,` in one flow map took 2 s without it. */
export const yamlTokensMax = 10_000;
export const yamlAliasesMax = 16;
/** Nodes after aliases are followed; 16 aliases alone could still double a list eight times. */
const nodesMax = 20_000;

/** A parsed file: its value as plain JSON, and where each part of it stands. */
export interface Yaml {
  readonly file: string;
  /** the whole file */
  readonly text: string;
  readonly value: JsonValue;
  /** Position of the value at a path, or of its nearest ancestor that is in the file. */
  at(path: YamlPath): Position;
  /** Position of a key in the map at a path. */
  atKey(path: YamlPath, key: string): Position;
  /** Position of the first `word` inside the value at a path, or of the value. */
  atWord(path: YamlPath, word: string): Position;
}

export type YamlResult = { readonly yaml: Yaml } | { readonly faults: readonly TemplateFault[] };

/**
 * Parses YAML that nobody has checked. Never throws and never exhausts the stack: size, tokens and nesting are bounded by the
 * lexer, which is flat, before the recursive parser sees the text (2 KB of `[` parsed twice aborts Node otherwise).
 * Refused: several documents, directives, tags, merge keys, keys that are not strings, `__proto__`, duplicate keys, aliases of an
 * enclosing node, numbers that JSON does not have.
 * @param file its name for messages
 */
export function parseYaml(file: string, text: string): YamlResult {
  const refused = guard(file, text);
  if (refused) return { faults: [refused] };
  const lines = new LineCounter();
  const documents = parseAllDocuments(text, { lineCounter: lines, prettyErrors: false, strict: true, uniqueKeys: true, merge: false, logLevel: 'silent' });
  const position = (offset: number): Position => {
    const { line, col } = lines.linePos(offset);
    return { file, line: Math.max(1, line), column: Math.max(1, col) };
  };
  const document = documents[0];
  if (!document || document.contents === null) {
    return { faults: [templateFault({ file, line: 1, column: 1 }, 'the file is empty, a template was expected')] };
  }
  const second = documents[1];
  if (second) return { faults: [templateFault(position(second.range[0]), 'a second YAML document; a file holds exactly one template')] };
  const faults = [...document.errors, ...document.warnings].map((error) =>
    templateFault(position(error.pos[0]), `${sentence(error.message)}${quoteHint(text, error.pos[0])}`),
  );
  faults.push(...nodeFaults(document, position));
  if (faults.length > 0) return { faults: inOrder(faults) };

  const contents = document.contents;
  let value: JsonValue;
  try {
    value = toJson(document, contents, { left: nodesMax });
  } catch (error) {
    return { faults: [templateFault(position(0), error instanceof Error ? error.message : String(error))] };
  }
  return { yaml: reader(file, text, document, contents, value, position) };
}

/** Faults in the order of the file. */
export function inOrder(faults: readonly TemplateFault[]): TemplateFault[] {
  return [...faults].sort((a, b) => a.line - b.line || a.column - b.column);
}

function guard(file: string, text: string): TemplateFault | null {
  const start = { file, line: 1, column: 1 };
  const bytes = Buffer.byteLength(text);
  if (bytes > yamlBytesMax) return templateFault(start, `the file has ${bytes} bytes; a template may have at most ${yamlBytesMax}`);
  if (text.includes('\0')) return templateFault(positionIn(file, text, text.indexOf('\0')), 'a NUL character');
  let offset = 0;
  let tokens = 0;
  let flow = 0;
  let inline = 0;
  const indents: number[] = [];
  let lineStart = true;
  for (const token of new Lexer().lex(text)) {
    const type = CST.tokenType(token);
    // The lexer adds control marks of its own that are not in the text.
    const length = type === 'doc-mode' || type === 'flow-error-end' || type === 'scalar' ? 0 : token.length;
    if (type === 'newline') {
      lineStart = true;
      inline = 0;
    } else if (lineStart && type !== 'space') {
      const column = offset - (text.lastIndexOf('\n', offset - 1) + 1);
      while ((indents.at(-1) ?? -1) >= column) indents.pop();
      indents.push(column);
      lineStart = false;
    }
    if (type === 'flow-map-start' || type === 'flow-seq-start') flow++;
    if (type === 'flow-map-end' || type === 'flow-seq-end') flow--;
    if (type === 'seq-item-ind' || type === 'explicit-key-ind' || type === 'map-value-ind') inline++;
    if (type === 'directive-line') return templateFault(positionIn(file, text, offset), 'YAML directives (%) are not used in templates');
    if (type === 'tag') return templateFault(positionIn(file, text, offset), `tag ${token} is not allowed`);
    // Each `-` on one line opens a list inside a list, so they count like brackets; a line has one `key:` anyway.
    if (flow + indents.length + Math.max(0, inline - (flow > 0 ? inline : 2)) > yamlDepthMax) {
      return templateFault(positionIn(file, text, offset), `nested more than ${yamlDepthMax} levels deep`);
    }
    if (++tokens > yamlTokensMax) return templateFault(positionIn(file, text, offset), `more than ${yamlTokensMax} YAML tokens`);
    offset += length;
  }
  return null;
}

function positionIn(file: string, text: string, offset: number): Position {
  const before = text.slice(0, offset);
  const lineStart = before.lastIndexOf('\n') + 1;
  return { file, line: before.split('\n').length, column: offset - lineStart + 1 };
}

function nodeFaults(document: Document, position: (offset: number) => Position): TemplateFault[] {
  const faults: TemplateFault[] = [];
  let aliases = 0;
  const add = (node: unknown, text: string) => faults.push(templateFault(position(startOf(node)), text));
  visit(document, {
    Node(_key, node, ancestors) {
      if (isAlias(node)) {
        aliases++;
        if (aliases === yamlAliasesMax + 1) add(node, `more than ${yamlAliasesMax} aliases`);
        const target = node.resolve(document);
        if (!target) add(node, `alias *${node.source} has no anchor before it`);
        else if (ancestors.includes(target)) add(node, `alias *${node.source} stands inside the value it names`);
      }
    },
    Pair(_key, pair) {
      const key = pair.key;
      if (isCollection(key)) {
        const quoted = isMap(key) && key.flow;
        add(key, quoted ? 'an expression has to be quoted: write "{{ ... }}" with quotes, since YAML reads bare braces as a map' : 'a key has to be a string');
        return visit.SKIP;
      }
      if (isScalar(key) && key.value === '__proto__') add(key, 'key "__proto__" is not allowed');
      else if (isScalar(key) && key.value === '<<') add(key, 'merge keys (<<) are not supported');
      else if (isScalar(key) && typeof key.value !== 'string') add(key, `key ${String(key.value)} has to be a string; put it in quotes`);
      else if (!isScalar(key)) add(key, 'a key has to be a string');
      return undefined;
    },
    Scalar(key, node) {
      if (key === 'key') return;
      const number = typeof node.value === 'number';
      if (number && !Number.isFinite(node.value)) add(node, `${node.source ?? 'this'} is not a number that JSON has`);
      if (number && Number.isInteger(node.value) && !Number.isSafeInteger(node.value))
        add(node, `${node.source ?? 'this number'} is too large to be exact; put it in quotes`);
    },
  });
  return faults;
}

function startOf(node: unknown): number {
  const range = (node as { range?: readonly number[] | null } | null)?.range;
  return range?.[0] ?? 0;
}

function resolved(document: Document, node: unknown): unknown {
  return node instanceof Alias ? node.resolve(document) : node;
}

function toJson(document: Document, source: unknown, budget: { left: number }): JsonValue {
  if (--budget.left < 0) throw new Error(`more than ${nodesMax} values once the aliases are followed`);
  const node = resolved(document, source);
  if (isMap(node)) {
    // fromEntries defines own properties, so no key can reach a prototype.
    return Object.fromEntries(
      node.items.map((pair) => [String(isScalar(pair.key) ? pair.key.value : pair.key), toJson(document, pair.value, budget)]),
    ) as JsonObject;
  }
  if (isSeq(node)) return node.items.map((item) => toJson(document, item, budget));
  if (isScalar(node)) return node.value as JsonValue;
  return null;
}

function reader(file: string, text: string, document: Document, contents: Node, value: JsonValue, position: (offset: number) => Position): Yaml {
  const find = (path: YamlPath): unknown => {
    let node: unknown = contents;
    for (const part of path) {
      const parent = resolved(document, node);
      const next =
        isMap(parent) && typeof part === 'string' ? pairOf(parent, part)?.value : isSeq(parent) && typeof part === 'number' ? parent.items[part] : undefined;
      if (next === undefined || next === null) return node;
      node = next;
    }
    return node;
  };
  return {
    file,
    text,
    value,
    at: (path) => position(startOf(find(path))),
    atKey(path, key) {
      const parent = resolved(document, find(path));
      const pair = isMap(parent) ? pairOf(parent, key) : undefined;
      return position(startOf(pair?.key ?? parent));
    },
    atWord(path, word) {
      const node = find(path) as { range?: readonly number[] | null };
      const [start, end] = [node.range?.[0] ?? 0, node.range?.[1] ?? 0];
      const found = new RegExp(`(?<![\\w.])${word.replace(/[^\w]/g, '\\$&')}(?!\\w)`).exec(text.slice(start, end));
      return position(start + (found?.index ?? 0));
    },
  };
}

function pairOf(map: { items: readonly unknown[] }, key: string): { key: unknown; value: unknown } | undefined {
  return map.items.filter((item) => isPair(item)).find((pair) => isScalar(pair.key) && pair.key.value === key);
}

/** A parser's message as the middle of a sentence of ours. */
function sentence(message: string): string {
  return message.charAt(0).toLowerCase() + message.slice(1);
}

/** `repo: {{url}}/x` is a syntax error to YAML; what the author needs to hear is to quote it. */
function quoteHint(text: string, offset: number): string {
  const start = text.lastIndexOf('\n', Math.max(0, offset - 1)) + 1;
  const line = text.slice(start).split('\n', 1)[0] ?? '';
  return /(^|[\s:[,-])\{\{/.test(line) ? '; an expression has to be quoted: write "{{ ... }}" with quotes' : '';
}
