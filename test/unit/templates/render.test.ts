import fc from 'fast-check';
import { readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import type { JsonObject, JsonValue } from '../../../contract/json.js';
import { renderString } from '../../../templates/render.js';

/**
 * Made once with `pip install jinja2==3.1.6`, outside of the repository: each template rendered by
 * Environment(undefined=StrictUndefined, keep_trailing_newline=True) with the file's context; an exception is kept by its type.
 */
const golden = JSON.parse(readFileSync(new URL('jinja2-golden.json', import.meta.url), 'utf8')) as {
  context: JsonObject;
  cases: { template: string; output?: string; error?: string }[];
};

/** Where we differ from Jinja2, and how. */
const differences: Record<string, string | undefined> = {
  // A field that is only the name of an absent parameter is left out (TPL-16).
  '{{ missing }}': undefined,
  '{% for k, v in o.items() %}{{ k }} {% endfor %}': 'deep k ',
  '{{ html|escape }}': '&lt;b&gt;&amp;&lt;&#x2f;b&gt;',
  '{% set a, b = [1, 2] %}{{ a }}{{ b }}': 'error',
  '{{ text|wordcount }}': 'error',
};

function outcome(template: string, context: JsonObject): string | undefined {
  try {
    const value = renderString(template, context);
    return value === undefined ? undefined : typeof value === 'string' ? value : JSON.stringify(value);
  } catch {
    return 'error';
  }
}

describe('renders as Jinja2 does [TPL-15]', () => {
  test.each(golden.cases.map((each) => [each.template, each] as const))('%s', (template, { output, error }) => {
    const expected = template in differences ? differences[template] : error === undefined ? output : 'error';
    expect(outcome(template, golden.context)).toBe(expected);
  });
});

/** JSON as PostgreSQL takes it: no half characters, no `__proto__`; through text, since JSON has no -0. */
const json = fc
  .jsonValue()
  .map((value) => JSON.stringify(value))
  .filter((text) => !/\\ud[89a-f]/i.test(text) && !text.includes('__proto__'))
  .map((text) => JSON.parse(text) as JsonValue);

test('a value that is one expression keeps its type and its content [TPL-16]', () => {
  fc.assert(
    fc.property(json, (x) => {
      expect(renderString('{{x}}', { x })).toEqual(x);
      expect(renderString('{{ x }}\n', { x })).toEqual(x);
      expect(renderString('{{- o.x -}}', { o: { x } })).toEqual(x);
      expect(renderString('{{ [x][0] }}', { x })).toEqual(x);
      expect(renderString("{{ x|default('none', false) }}", { x })).toEqual(x);
    }),
    { numRuns: 200 },
  );
});

test('the order of an object is kept', () => {
  expect(JSON.stringify(renderString('{{ x }}', { x: { z: 1, a: 2 } }))).toBe('{"z":1,"a":2}');
});

test('a parameter is text whatever it looks like, and is rendered once [bad-24]', () => {
  const hostile = fc.constantFrom(
    '{{ secret }}',
    '{% raw %}',
    '{# x',
    '}}',
    '"\n- a: b\n',
    '!!js/function x',
    '&a *a',
    "'",
    '${x}',
    '<%= process.env %>',
    '\\u0041',
    '\r\n',
    '%}',
  );
  fc.assert(
    fc.property(fc.array(fc.oneof(hostile, fc.string()), { maxLength: 6 }), (parts) => {
      const x = parts.join('');
      expect(renderString('{{ x }}', { x, secret: 's' })).toBe(x);
      expect(renderString('<{{ x }}>', { x, secret: 's' })).toBe(`<${x}>`);
      expect(renderString('{% if x is defined %}{{ x }}{% endif %}', { x, secret: 's' })).toBe(x);
    }),
    { numRuns: 200 },
  );
});

const attacks = [
  "{{ x.constructor.constructor('return process')() }}!",
  "{{ x['constructor'] }}!",
  '{{ x.__proto__ }}!',
  '{{ x.__class__.__mro__ }}!',
  "{{ ''.__class__.__base__.__subclasses__() }}!",
  "{{ x|attr('constructor') }}!",
  '{{ self.__init__.__globals__ }}!',
  "{{ cycler.__init__.__globals__.os.popen('id').read() }}!",
  '{{ lipsum.__globals__ }}!',
  "{% include '/etc/passwd' %}",
  "{% extends '/etc/passwd' %}",
  "{% import 'os' as os %}",
  '{{ debug() }}!',
  '{{ "a" * 1000000000 }}',
  '{{ "a" * 2000000000 }}',
  '{{ "a" * 10000000 }}',
  '{{ range(1000000000)|list }}!',
  `${Array.from({ length: 100 }, (_, index) => `{% for i${index} in range(100) %}`).join('')}x${'{% endfor %}'.repeat(100)}`,
  '{% for i in range(99999) %}{% for j in range(99999) %}x{% endfor %}{% endfor %}',
  '{% set ns = namespace(s="aaaa") %}{% for i in range(40) %}{% set ns.s = ns.s ~ ns.s %}{% endfor %}{{ ns.s }}',
  '{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}',
  `{{ ${'('.repeat(5000)}1${')'.repeat(5000)} }}`,
  `{{ ${'['.repeat(5000)}1${']'.repeat(5000)} }}`,
];

test.each(attacks.map((attack) => [attack.slice(0, 70), attack] as const))('an attack gives an error and no more [TPL-17] [bad-23]: %s', (_name, attack) => {
  expect(() => renderString(attack, { x: { a: 1 } })).toThrow(expect.objectContaining({ name: 'TemplateError' }));
  expect(renderString('{{ x }} after', { x: 'well' }), 'the sandbox works on').toBe('well after');
});

test('other template languages are text [bad-23]', () => {
  expect(renderString('<%= process.env %> ${process.env} {{ x }} #{x}', { x: 1 })).toBe('<%= process.env %> ${process.env} 1 #{x}');
});

test('an absent name is named, also where MiniJinja would pass over it', () => {
  const message = (source: string) => {
    try {
      return renderString(source, { o: {} });
    } catch (error) {
      return (error as Error).message;
    }
  };
  expect(
    [
      'a {{ p }}',
      '{{ p|upper }}',
      '{{ p ~ "x" }}',
      '{{ not p }}',
      '{{ [p] }}',
      '{{ o.q.r }}',
      '{% if p %}{% endif %}',
      '{{ p if p is defined }}',
      '{{ p }}',
    ].map((source) => [source, message(source)]),
  ).toMatchInlineSnapshot(`
    [
      [
        "a {{ p }}",
        ""p" has no value; use the filter default or the test "is defined" where it may be absent",
      ],
      [
        "{{ p|upper }}",
        ""p" has no value; use the filter default or the test "is defined" where it may be absent",
      ],
      [
        "{{ p ~ "x" }}",
        ""p" has no value; use the filter default or the test "is defined" where it may be absent",
      ],
      [
        "{{ not p }}",
        ""p" has no value; use the filter default or the test "is defined" where it may be absent",
      ],
      [
        "{{ [p] }}",
        ""p" has no value; use the filter default or the test "is defined" where it may be absent",
      ],
      [
        "{{ o.q.r }}",
        ""o.q" has no value; use the filter default or the test "is defined" where it may be absent",
      ],
      [
        "{% if p %}{% endif %}",
        ""p" has no value; use the filter default or the test "is defined" where it may be absent",
      ],
      [
        "{{ p if p is defined }}",
        "{{ p if p is defined }} has no value",
      ],
      [
        "{{ p }}",
        undefined,
      ],
    ]
  `);
});
