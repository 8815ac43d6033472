import { parse, tokenize } from '@huggingface/jinja';

/** A name that a string takes from its context, with the fixed part of its path: `steps.read.text`, `files[0]`. */
export interface Reference {
  readonly path: readonly (string | number)[];
  /** it is read whatever the values are, and neither `default` nor `is defined` excuses its absence */
  readonly required: boolean;
}

/** What a string asks of its context. */
export interface Analysis {
  readonly references: readonly Reference[];
  readonly filters: ReadonlySet<string>;
  readonly tests: ReadonlySet<string>;
}

/** Names that every expression has; neither parameters nor steps may be called so. */
export const builtInNames: ReadonlySet<string> = new Set([
  'true',
  'false',
  'none',
  'True',
  'False',
  'None',
  'range',
  'dict',
  'namespace',
  'cycler',
  'joiner',
  'loop',
  'self',
  'super',
  'caller',
  'varargs',
  'kwargs',
  'and',
  'or',
  'not',
  'in',
  'is',
  'if',
  'else',
  'elif',
  'for',
  'set',
  'macro',
  'call',
  'filter',
  'block',
  'extends',
  'include',
  'import',
  'from',
  'with',
  'raw',
  'recursive',
  'undefined',
]);

/** Whether a string is to be rendered at all; any other string is taken as it stands. */
export function hasExpression(source: string): boolean {
  return /\{[{%#]/.test(source);
}

/**
 * The expression of a string that is nothing but one, `{{ files }}`, save for a final newline as a block scalar has it.
 * Such a value keeps its type.
 */
export function wholeExpression(source: string): string | null {
  const text = source.endsWith('\n') ? source.slice(0, -1) : source;
  if (!text.startsWith('{{') || !text.endsWith('}}')) return null;
  let depth = 0;
  for (let at = 2; at < text.length; at++) {
    const character = text[at];
    if (character === '"' || character === "'") {
      at++;
      while (at < text.length && text[at] !== character) at += text[at] === '\\' ? 2 : 1;
    } else if (character === '{') depth++;
    else if (character === '}' && depth > 0) depth--;
    else if (character === '}') {
      if (at !== text.length - 2) return null;
      return text.slice(2, at).replace(/^[-+]/, '').replace(/[-+]$/, '').trim();
    }
  }
  return null;
}

/**
 * Reads which names, filters and tests a string uses.
 * @returns null when that cannot be told: the parser knows less of Jinja2 (no `{% raw %}`) than the renderer
 */
export function analyse(source: string): Analysis | null {
  const found: Found = { references: [], filters: new Set(), tests: new Set() };
  try {
    // The parser takes quadratic time over blanks: 60 KB of them took 6 s.
    const program = parse(tokenize(source.replace(/\s{100,}/g, ' '))) as unknown as AstNode;
    walkAll(program.body, { names: builtInNames, required: true }, found);
  } catch {
    // Also a tree too deep to walk, such as 5,000 nested `if`s.
    return null;
  }
  return found;
}

type AstField =
  | 'argument'
  | 'assignee'
  | 'call'
  | 'callee'
  | 'condition'
  | 'falseExpr'
  | 'filter'
  | 'iterable'
  | 'key'
  | 'left'
  | 'lhs'
  | 'loopvar'
  | 'name'
  | 'object'
  | 'operand'
  | 'property'
  | 'right'
  | 'start'
  | 'step'
  | 'stop'
  | 'test'
  | 'trueExpr';

/** The parser's tree, as far as it is read here; its package exports no types for it. Which fields a node has follows from its type. */
interface AstNode extends Readonly<Record<AstField, AstNode>> {
  readonly type: string;
  readonly body: readonly AstNode[];
  readonly alternate: readonly AstNode[];
  readonly defaultBlock: readonly AstNode[];
  readonly args: readonly AstNode[];
  readonly callerArgs: readonly AstNode[] | null;
  readonly computed: boolean;
  readonly operator: { readonly value: string };
  /** a name, a literal, or the parts of a composed one */
  readonly value: unknown;
}

interface Found {
  readonly references: Reference[];
  readonly filters: Set<string>;
  readonly tests: Set<string>;
}

/** Names bound at this point, and whether this point is reached and needs its values whatever they are. */
interface Scope {
  names: ReadonlySet<string>;
  readonly required: boolean;
}

const inner = (scope: Scope, ...names: readonly string[]): Scope => ({ names: new Set([...scope.names, ...names]), required: false });
const perhaps = (scope: Scope): Scope => ({ names: scope.names, required: false });

function walkAll(nodes: readonly AstNode[] | undefined, scope: Scope, found: Found): void {
  for (const node of nodes ?? []) walk(node, scope, found);
}

function walk(node: AstNode | null | undefined, scope: Scope, found: Found): void {
  if (!node) return;
  switch (node.type) {
    case 'Identifier':
    case 'MemberExpression':
      walkPath(node, scope, found);
      return;
    case 'If': {
      walk(node.test, scope, found);
      // An `if` opens no scope: what it sets is known after it.
      const branches = perhaps(scope);
      walkAll(node.body, branches, found);
      walkAll(node.alternate, branches, found);
      scope.names = branches.names;
      return;
    }
    case 'For':
      walk(node.iterable, node.iterable.type === 'SelectExpression' ? inner(scope, ...boundNames(node.loopvar)) : scope, found);
      walkAll(node.body, inner(scope, ...boundNames(node.loopvar)), found);
      walkAll(node.defaultBlock, inner(scope), found);
      return;
    case 'Set':
      walk(node.value as AstNode | null, scope, found);
      walkAll(node.body, scope, found);
      scope.names = new Set([...scope.names, ...boundNames(node.assignee)]);
      return;
    case 'Macro':
      scope.names = new Set([...scope.names, nameOf(node.name)]);
      walkAll(node.body, inner(scope, ...node.args.flatMap(boundNames)), found);
      return;
    case 'CallStatement':
      walk(node.call, scope, found);
      walkAll(node.body, inner(scope, ...(node.callerArgs ?? []).flatMap(boundNames)), found);
      return;
    case 'FilterExpression':
    case 'FilterStatement':
      walkFilter(node, scope, found);
      return;
    case 'TestExpression': {
      const test = nameOf(node.test);
      found.tests.add(test);
      walk(node.operand, test === 'defined' || test === 'undefined' ? perhaps(scope) : scope, found);
      return;
    }
    case 'SelectExpression':
      walk(node.test, scope, found);
      walk(node.lhs, scope.required ? perhaps(scope) : scope, found);
      return;
    case 'Ternary':
      walk(node.condition, scope, found);
      walk(node.trueExpr, perhaps(scope), found);
      walk(node.falseExpr, perhaps(scope), found);
      return;
    case 'BinaryExpression': {
      const lazy = node.operator.value === 'and' || node.operator.value === 'or';
      walk(node.left, scope, found);
      walk(node.right, lazy ? perhaps(scope) : scope, found);
      return;
    }
    case 'CallExpression':
      // A method belongs to the value, so only the object has to be there.
      if (node.callee.type === 'MemberExpression') walk(node.callee.object, scope, found);
      else walk(node.callee, scope, found);
      walkAll(node.args, scope, found);
      return;
    case 'KeywordArgumentExpression':
      walk(node.value as AstNode, scope, found);
      return;
    case 'UnaryExpression':
    case 'SpreadExpression':
    case 'KeywordSpreadExpression':
      walk(node.argument, scope, found);
      return;
    case 'SliceExpression':
      walkAll([node.start, node.stop, node.step].filter(Boolean), scope, found);
      return;
    case 'ArrayLiteral':
    case 'TupleLiteral':
      walkAll(node.value as AstNode[], scope, found);
      return;
    case 'ObjectLiteral':
      for (const [key, value] of node.value as Map<AstNode, AstNode>) walkAll([key, value], scope, found);
      return;
    default:
      return;
  }
}

function walkFilter(node: AstNode, scope: Scope, found: Found): void {
  const name = nameOf(node.filter);
  found.filters.add(name);
  if (node.type === 'FilterStatement') walkAll(node.body, scope, found);
  else walk(node.operand, name === 'default' || name === 'd' ? perhaps(scope) : scope, found);
  if (node.filter.type === 'CallExpression') walkAll(node.filter.args, scope, found);
}

function walkPath(node: AstNode, scope: Scope, found: Found): void {
  const path: (string | number)[] = [];
  let at = node;
  let dynamic = false;
  while (at.type === 'MemberExpression') {
    const property: AstNode = at.property;
    if (!at.computed || property.type === 'StringLiteral' || property.type === 'IntegerLiteral') path.unshift(property.value as string | number);
    else {
      // What follows a computed key is not fixed; the path ends before it.
      walk(property, scope, found);
      path.length = 0;
      dynamic = true;
    }
    at = at.object;
  }
  if (at.type !== 'Identifier') {
    walk(at, scope, found);
    return;
  }
  const root = nameOf(at);
  if (scope.names.has(root)) return;
  // Of `steps[name].text` nothing below `steps` is known, yet `steps` itself has to be there.
  found.references.push({ path: dynamic ? [root] : [root, ...path], required: scope.required });
}

/** What an identifier, or the call of one, is called. */
function nameOf(node: AstNode): string {
  return String(node.type === 'CallExpression' ? node.callee.value : node.value);
}

function boundNames(node: AstNode): string[] {
  if (node.type === 'Identifier') return [nameOf(node)];
  if (node.type === 'TupleLiteral') return (node.value as AstNode[]).flatMap(boundNames);
  if (node.type === 'KeywordArgumentExpression') return boundNames(node.key);
  return [];
}
