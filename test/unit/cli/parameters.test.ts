import { expect, test } from 'vitest';
import type { DeclaredParameter } from '../../../client/shapes.js';
import type { CliFailure } from '../../../cli/failure.js';
import { parseParameters } from '../../../cli/parameters.js';

const declared = (['string', 'integer', 'number', 'boolean', 'array', 'object'] as const).map((type) => ({ name: type, type }) as DeclaredParameter);
const files: Record<string, string> = { lines: 'one\n\ntwo\r\n', json: '["a", 1]', text: 'from a file\n', '-': 'typed' };
const read = (path: string) => files[path] ?? '';
const parse = (...pairs: string[]) => parseParameters(pairs, declared, read);

test('a value is read by the type that the template declares', () => {
  expect(parse('string=12', 'integer=12', 'number=-1.5e3', 'boolean=yes', 'object={"a":[1]}')).toEqual({
    string: '12',
    integer: 12,
    number: -1500,
    boolean: true,
    object: { a: [1] },
  });
});

test('a list is repeated, JSON, or a file with one item a line', () => {
  expect(parse('array=one', 'array=two')).toEqual({ array: ['one', 'two'] });
  expect(parse('array=["one, two"]')).toEqual({ array: ['one, two'] });
  expect(parse('array=@lines')).toEqual({ array: ['one', 'two'] });
  expect(parse('array=@json')).toEqual({ array: ['a', 1] });
});

test('texts come from files, from standard input, and keep a leading @', () => {
  expect(parse('string=@text')).toEqual({ string: 'from a file\n' });
  expect(parse('string=@-')).toEqual({ string: 'typed' });
  expect(parse('string=@@home=1')).toEqual({ string: '@home=1' });
  expect(parse('string:=null', 'array:=[]')).toEqual({ string: null, array: [] });
});

test.each([
  ['integer=1.5', 'whole number'],
  ['integer=1e400', 'number'],
  ['integer=0x10', 'number'],
  ['integer=9007199254740993', 'whole number'],
  ['number=', 'number'],
  ['boolean=2', 'true or false'],
  ['object=[1]', 'one JSON object'],
  ['object={"a"', 'no JSON'],
  ['string:=nope', 'no JSON'],
  ['other=1', 'it takes string, integer'],
  ['noequals', 'write -p name=value'],
])('%s is refused as a mistake of usage that says what to write', (pair, said) => {
  expect(() => parse(pair)).toThrow(said);
  try {
    parse(pair);
  } catch (error) {
    expect((error as CliFailure).exitCode).toBe(2);
  }
});

test('one value cannot be given twice', () => {
  expect(() => parse('string=a', 'string=b')).toThrow('given twice');
});

test('names that mean something to JavaScript are names like others', () => {
  const parsed = parseParameters(['__proto__=x', 'constructor=y'], null, read);
  expect(Object.keys(parsed)).toEqual(['__proto__', 'constructor']);
  expect(Object.getPrototypeOf(parsed)).toBe(Object.prototype);
});
