import { expect, test } from 'vitest';
import { messages, parsed } from './test-steps.js';

const steps = 'steps:\n  - { type: read, files: "a" }\n';

test('every fault of a file is told at once, with its place and what is allowed [TPL-18]', () => {
  const bad = `name: bad name
description: x
parameters:
  - { name: topic, type: strin }
  - { name: topic, type: string, required: yes }
  - { name: steps, type: integer, default: "x", max: 1, min: 3 }
  - { name: 1st, type: string }
extra: 1
steps:
  - { type: reed, files: "{{topik}}" }
  - { type: ask, modl: x, model: "{{ previous.text }}", prompt: "{{ steps.later.text }} {{ topic|uper }} {{ steps.nope.x }}", options: { temperatur: 1 } }
  - type: read
    id: later
    files: |
      Some text
      {{ steps.ask.txt }} {{ topick }}
    limit: 11
    retry: { max_attempts: 0, foo: 1 }
    on_failure: ignore
    timeout_seconds: -1
  - { type: ask, model: "{{ topic }}", id: later, prompt: "{{ unclosed" }
  - { type: ask, model: m, prompt: "{{ steps.later.txt }} {% include 'x' %}" }
  - { type: anything, value: { "{{topic}}": 1 }, when: "{{ topic }} and x" }
  - { type: anything, when: "previous.valu > 1", list: 3 }
  - { files: a }
`;
  expect(messages(bad).join('\n')).toMatchInlineSnapshot(`
    "test.yaml:1:7: name: a template name has only letters, digits, "-" and "_"; got string "bad name"
    test.yaml:4:26: parameters[0].type: expected one of string, integer, number, boolean, array, object, got string "strin", did you mean "string"?
    test.yaml:5:13: parameter "topic" is declared twice
    test.yaml:5:44: parameters[1].required: expected boolean, got string "yes"; write true
    test.yaml:6:13: "steps" has a meaning of its own in expressions; name the parameter otherwise
    test.yaml:6:62: parameter "steps": min 3 is larger than max 1
    test.yaml:7:13: parameters[3].name: a parameter name starts with a letter or "_" and has only letters, digits and "_"; got string "1st"
    test.yaml:8:1: unknown key "extra"; allowed: name, description, parameters, retry, steps
    test.yaml:10:13: step "reed": unknown step type "reed", did you mean "read"?; known: read, ask, anything
    test.yaml:10:29: step "reed": files: "topik" is not declared, did you mean "topic"?; declared parameters: topic, steps, 1st
    test.yaml:11:18: step "ask": unknown key "modl", did you mean "model"?; allowed for ask: model, prompt, system, options, type, id, when, retry, timeout_seconds, on_failure
    test.yaml:11:38: step "ask": model: may name parameters only: which model a step needs has to be known when the task is submitted
    test.yaml:11:69: step "ask": prompt: step "later" does not come before this one
    test.yaml:11:98: step "ask": prompt: unknown filter "uper"
    test.yaml:11:109: step "ask": prompt: unknown step "nope"; steps before this one: reed
    test.yaml:11:138: step "ask": unknown key "temperatur", did you mean "temperature"?; allowed in options: num_ctx, temperature
    test.yaml:16:30: step "later": files: "topick" is not declared, did you mean "topic"?; declared parameters: topic, steps, 1st
    test.yaml:17:12: step "later": limit: expected at most 10, got number 11
    test.yaml:18:28: step "later": retry.max_attempts: expected at least 1, got number 0
    test.yaml:18:31: step "later": unknown key "foo"; allowed: max_attempts, initial_interval_seconds, backoff_coefficient, max_interval_seconds, non_retryable_errors
    test.yaml:19:17: step "later": on_failure: expected one of retry, skip, fail_workflow, got string "ignore"
    test.yaml:20:22: step "later": timeout_seconds: expected more than 0, got number -1
    test.yaml:21:44: step "later": id "later" is used by an earlier step
    test.yaml:21:59: step "later": prompt: syntax error: unexpected end of input, expected end of variable block
    test.yaml:22:36: step "ask_2": prompt: {% include %} is not available: a template stands for itself
    test.yaml:23:32: step "anything": key "{{topic}}": expressions may stand in values, not in keys
    test.yaml:23:56: step "anything": when: expected one expression, such as previous.exit_code == 0
    test.yaml:24:5: step "anything_2": value: is missing; expected a value
    test.yaml:24:56: step "anything_2": list: expected array, got number 3
    test.yaml:25:5: step "#8": type: is missing; expected string"
  `);
});

test.each([
  ['no steps', 'name: x'],
  ['no list of steps', 'name: x\nsteps: 3'],
  ['an empty list', 'name: x\nsteps: []'],
  ['a step that is text', 'name: x\nsteps: [git_clone]'],
  ['no name', steps],
  ['a list instead of a map', '- a'],
  ['text instead of a map', 'hello'],
  ['parameters as a map', `name: x\nparameters: { a: string }\n${steps}`],
  ['previous in the first step', 'name: x\nsteps:\n  - { type: read, files: "{{ previous.text }}" }'],
  ['an output that a step has not', 'name: x\nsteps:\n  - { type: read, files: a }\n  - { type: read, files: "{{ previous.txt }}" }'],
  ['a model from an output', 'name: x\nsteps:\n  - { type: read, files: a }\n  - { type: ask, prompt: p, model: "{{ steps.read.text }}" }'],
  [
    'a context length from an output',
    'name: x\nsteps:\n  - { type: read, files: a }\n  - { type: ask, prompt: p, model: m, options: { num_ctx: "{{ previous.count }}" } }',
  ],
  ['a default of the wrong type', `name: x\nparameters:\n  - { name: a, type: integer, default: 1.5 }\n${steps}`],
  ['a default outside of enum', `name: x\nparameters:\n  - { name: a, type: string, enum: [b, c], default: d }\n${steps}`],
  ['required with a default', `name: x\nparameters:\n  - { name: a, type: string, required: true, default: d }\n${steps}`],
  ['a pattern that is none', `name: x\nparameters:\n  - { name: a, type: string, pattern: "(" }\n${steps}`],
  ['a pattern on a number', `name: x\nparameters:\n  - { name: a, type: number, pattern: "a" }\n${steps}`],
  ['min on an object', `name: x\nparameters:\n  - { name: a, type: object, min: 1 }\n${steps}`],
  ['a reserved name', `name: x\nparameters:\n  - { name: previous, type: string }\n  - { name: range, type: string }\n${steps}`],
])('%s is refused [TPL-02]', (_what, text) => {
  expect(messages(text)).not.toEqual([]);
  expect(messages(text)).toMatchSnapshot();
});

test('steps without an id get their type, then a number, and never one that an author chose [TASK-14]', () => {
  const template = parsed(
    'name: x\nsteps:\n  - { type: read, files: a }\n  - { type: read, files: a }\n  - { type: read, id: read_3, files: a }\n  - { type: read, files: a }\n  - { type: ask, model: m, prompt: p }',
  );
  expect(template.steps.map((step) => step.id)).toEqual(['read', 'read_2', 'read_3', 'read_4', 'ask']);
});

test('all that a template may say is read [TPL-02] [TPL-03]', () => {
  const template = parsed(`
name: full
description: All of it
parameters:
  - { name: s, type: string, required: true, description: d, pattern: "^a", min: 1, max: 5 }
  - { name: i, type: integer, min: 1, max: 3, default: 2 }
  - { name: n, type: number, enum: [1, 1.5] }
  - { name: b, type: boolean, default: false }
  - { name: a, type: array, max: 2 }
  - { name: o, type: object, default: { k: 1 } }
retry: { initial_interval_seconds: 2 }
steps:
  - { type: read, id: first, files: "{{ s }}", when: "{{ b }}", retry: { max_attempts: 5, non_retryable_errors: [x] }, timeout_seconds: 5, on_failure: skip }
  - { type: ask, model: "{{ s }}", prompt: "{{ steps.first.text|default('') }} {% for x in a|default([]) %}{{ x }}{% endfor %}", when: "previous is not none" }
`);
  expect(template.steps.map(({ definition, ...step }) => ({ ...step, type: definition.type }))).toMatchInlineSnapshot(`
    [
      {
        "id": "first",
        "input": {
          "files": "{{ s }}",
        },
        "onFailure": "skip",
        "retry": {
          "max_attempts": 5,
          "non_retryable_errors": [
            "x",
          ],
        },
        "timeoutSeconds": 5,
        "type": "read",
        "when": "b",
      },
      {
        "id": "ask",
        "input": {
          "model": "{{ s }}",
          "prompt": "{{ steps.first.text|default('') }} {% for x in a|default([]) %}{{ x }}{% endfor %}",
        },
        "onFailure": "retry",
        "type": "ask",
        "when": "previous is not none",
      },
    ]
  `);
  expect(template.parameters.map(({ name, type, required }) => [name, type, required])).toMatchInlineSnapshot(`
    [
      [
        "s",
        "string",
        true,
      ],
      [
        "i",
        "integer",
        false,
      ],
      [
        "n",
        "number",
        false,
      ],
      [
        "b",
        "boolean",
        false,
      ],
      [
        "a",
        "array",
        false,
      ],
      [
        "o",
        "object",
        false,
      ],
    ]
  `);
});

test('a string that the checker cannot read is left to the renderer', () => {
  expect(messages('name: x\nsteps:\n  - { type: read, files: "{% raw %}{{ not_a_name }}{% endraw %}" }')).toEqual([]);
});

const step = 'name: x\nsteps:\n  - type: ask\n    model: m\n    prompt: ';
test.each([
  ['nested conditions', `${step}"{{ 1${' if a else 1'.repeat(5000)} }}"`],
  ['a long sum', `${step}"{{ 1${'+1'.repeat(30_000)} }}"`],
  ['a long chain of filters', `${step}"{{ 1${'|f'.repeat(20_000)} }}"`],
  ['open brackets', `${step}"${'{{ '.repeat(20_000)}"`],
  ['parentheses', `${step}"{{ ${'('.repeat(30_000)} }}"`],
  ['blanks', `${step}"{{ ${' '.repeat(60_000)}a }}"`],
  ['six thousand names', `${step}"${Array.from({ length: 6000 }, (_, index) => `{{a${index}}}`).join('')}"`],
  [
    'patterns that never end',
    `name: x\nparameters:\n${`  - { name: a, type: string, pattern: "^(a+)+$", default: "${'a'.repeat(40)}b" }\n`.repeat(100)}steps:\n  - { type: read, files: a }`,
  ],
])('a hostile file gets a bounded answer, never an exception [bad-22]: %s', (_what, text) => {
  const told = messages(text);
  expect(told.length).toBeLessThanOrEqual(101);
  for (const message of told) expect(message).toMatch(/^test\.yaml:\d+:\d+: /);
});
