import { expect, test } from 'vitest';
import type { StepOutputs } from '../../../contract/plan.js';
import { createRenderer } from '../../../templates/render.js';
import { deployment, faultsOf, parsed, planOf } from './test-steps.js';

const chain = parsed(`
name: chain
parameters:
  - { name: files, type: array, required: true, max: 3 }
  - { name: model, type: string, required: true }
  - { name: style, type: string, enum: [short, long], default: short }
  - { name: system, type: string }
  - { name: ctx, type: integer, min: 256, max: 65536 }
steps:
  - { type: read, files: "{{files}}" }
  - type: ask
    model: "{{model}}"
    system: "{{system}}"
    prompt: "{{style}}: {{steps.read.text}}"
    options: { num_ctx: "{{ctx}}" }
  - { type: anything, value: "{{ previous }}", list: ["{{system}}", a, "{{ steps.read.count }}", "{{ steps.ask.text|upper }}"], when: "steps.read.count > 0" }
`);
const given = { files: ['a', 'b'], model: 'llama3.1' };
const outputs: StepOutputs = { steps: { read: { text: 'T {{ model }}', count: 2 }, ask: { text: 'hi' } }, previous: { text: 'hi' } };

test('a template becomes one chain of steps, frozen and complete [TPL-25] [TPL-23]', () => {
  expect(planOf(chain, given)).toMatchInlineSnapshot(`
    {
      "parameters": {
        "files": [
          "a",
          "b",
        ],
        "model": "llama3.1",
        "style": "short",
      },
      "steps": [
        {
          "deferred": [],
          "id": "read",
          "input": {
            "files": [
              "a",
              "b",
            ],
          },
          "needs": [],
          "onFailure": "retry",
          "pool": "general",
          "retry": {
            "backoffCoefficient": 2,
            "initialIntervalMs": 1000,
            "maximumAttempts": 3,
            "maximumIntervalMs": 60000,
            "nonRetryable": [
              "no_such_file",
            ],
          },
          "startToCloseMs": 60000,
          "title": "step 1/3 read",
          "type": "read",
        },
        {
          "deferred": [
            {
              "path": [
                "prompt",
              ],
              "template": "{{style}}: {{steps.read.text}}",
            },
          ],
          "id": "ask",
          "input": {
            "model": "llama3.1:latest",
            "options": {
              "num_ctx": 4096,
            },
          },
          "model": {
            "name": "llama3.1:latest",
            "numCtx": 4096,
          },
          "needs": [
            "read",
          ],
          "onFailure": "retry",
          "pool": "model",
          "retry": {
            "backoffCoefficient": 2,
            "initialIntervalMs": 1000,
            "maximumAttempts": 2,
            "maximumIntervalMs": 60000,
            "nonRetryable": [],
          },
          "startToCloseMs": 120000,
          "title": "step 2/3 ask llama3.1:latest",
          "type": "ask",
        },
        {
          "deferred": [
            {
              "path": [
                "value",
              ],
              "template": "{{ previous }}",
            },
            {
              "path": [
                "list",
                1,
              ],
              "template": "{{ steps.read.count }}",
            },
            {
              "path": [
                "list",
                2,
              ],
              "template": "{{ steps.ask.text|upper }}",
            },
          ],
          "id": "anything",
          "input": {
            "list": [
              "a",
              "",
              "",
            ],
          },
          "needs": [
            "ask",
          ],
          "onFailure": "retry",
          "pool": "general",
          "retry": {
            "backoffCoefficient": 2,
            "initialIntervalMs": 1000,
            "maximumAttempts": 3,
            "maximumIntervalMs": 60000,
            "nonRetryable": [],
          },
          "startToCloseMs": 60000,
          "title": "step 3/3 anything",
          "type": "anything",
          "when": "steps.read.count > 0",
        },
      ],
      "template": "chain",
      "templateHash": "89cc27b0dcb5186da2c529218b993ed813ed2d186050e83dcb8f53e9e42feb38",
      "version": 1,
    }
  `);
});

test('the plan does not follow its parameters when they change later [TPL-23]', () => {
  const parameters = { files: ['a'], model: 'm' };
  const plan = planOf(chain, parameters);
  parameters.files.push('later');
  expect(plan.steps[0]?.input).toEqual({ files: ['a'] });
  expect(plan.parameters['files']).toEqual(['a']);
});

test('an absent optional parameter leaves its field, and its item of a list, out [TPL-16]', () => {
  const [, ask, anything] = planOf(chain, given).steps;
  expect(ask?.input).not.toHaveProperty('system');
  expect(anything?.input['list']).toEqual(['a', '', '']);
  expect(planOf(chain, { ...given, system: 'S' }).steps[1]?.input['system']).toBe('S');
  expect(planOf(chain, { ...given, system: null }).steps[1]?.input).not.toHaveProperty('system');
});

test('deferred strings see outputs, keep types and are rendered once [TPL-22] [bad-24]', () => {
  const plan = planOf(chain, given);
  const renderer = createRenderer();
  expect(renderer.input(plan, plan.steps[1]!, outputs)).toMatchObject({ prompt: 'short: T {{ model }}' });
  expect(renderer.input(plan, plan.steps[2]!, outputs)).toEqual({ value: { text: 'hi' }, list: ['a', 2, 'HI'] });
  expect(plan.steps[2]?.input, 'the plan stays as it is').toEqual({ list: ['a', '', ''] });
});

test('a condition decides on outputs and parameters [TPL-22]', () => {
  const plan = planOf(chain, given);
  const renderer = createRenderer();
  const [first, , third] = plan.steps;
  expect(renderer.condition(plan, first!, outputs)).toBe(true);
  expect(renderer.condition(plan, third!, outputs)).toBe(true);
  expect(renderer.condition(plan, third!, { steps: { read: { text: '', count: 0 } }, previous: null })).toBe(false);
});

test('an output that is not there fails the step with its name and field', () => {
  const plan = planOf(chain, given);
  const renderer = createRenderer();
  const skipped: StepOutputs = { steps: { read: {}, ask: {} }, previous: null };
  expect(() => renderer.input(plan, plan.steps[1]!, skipped)).toThrow(
    expect.objectContaining({
      name: 'StepFailure',
      code: 'template_error',
      retryable: false,
      details: { step: 'ask', field: 'prompt' },
      message: expect.stringContaining('"steps.read.text" has no value'),
    }),
  );
  expect(() => renderer.condition(plan, plan.steps[2]!, skipped)).toThrow(
    expect.objectContaining({ code: 'template_error', details: { step: 'anything', field: 'when' } }),
  );
});

test('every wrong parameter is told, with what was expected and given [TASK-02] [TPL-18] [bad-12]', () => {
  const cases: Record<string, unknown> = {
    nothing: {},
    'all wrong': { files: 'a', model: ['m'], style: 'medium', system: 3, ctx: 1.5, foo: 1, modle: 'x' },
    limits: { files: ['a', 'b', 'c', 'd'], model: 'm', ctx: 1 },
    'a list instead of an object': [],
    text: 'x',
    null: null,
    'null for a required one': { ...given, model: null },
    'a million items': { ...given, files: Array.from({ length: 1_000_000 }, () => 'x') },
    'too deep': { ...given, files: [JSON.parse('['.repeat(100) + ']'.repeat(100))] },
    NUL: { ...given, model: 'a\0b' },
    'half a character': { ...given, system: '\ud800' },
    'a prototype': JSON.parse('{"files": [{"__proto__": {"x": 1}}], "model": "m"}'),
    'prototype as a name': JSON.parse('{"files": ["a"], "model": "m", "__proto__": 1, "constructor": 2}'),
    'too many bytes': { ...given, system: 'x'.repeat(600_000) },
    'a wrong item': { ...given, files: ['a', 7] },
    'many unknown names': { ...given, ...Object.fromEntries(Array.from({ length: 5000 }, (_, index) => [`p${index}`, 1])) },
    'an empty list': { ...given, files: [] },
    'a foreign registry': { ...given, model: 'evil.example/x/y' },
    'a cloud model': { ...given, model: 'gpt-oss:cloud' },
  };
  expect(Object.fromEntries(Object.entries(cases).map(([name, parameters]) => [name, faultsOf(chain, parameters).slice(-8)]))).toMatchInlineSnapshot(`
    {
      "NUL": [
        {
          "expected": "text without NUL characters",
          "got": "string "a\\u0000b"",
          "message": "parameter "model": expected text without NUL characters, got string "a\\u0000b"",
          "path": "parameters.model",
        },
      ],
      "a cloud model": [
        {
          "expected": "the name of a model",
          "got": "string "gpt-oss:cloud"",
          "message": "test.yaml:12:12: step "ask", field "model" (parameter "model"): model "gpt-oss:cloud" would run in the cloud; prompts never leave this machine",
          "path": "parameters.model",
        },
      ],
      "a foreign registry": [
        {
          "expected": "the name of a model",
          "got": "string "evil.example/x/y"",
          "message": "test.yaml:12:12: step "ask", field "model" (parameter "model"): registry "evil.example" is not allowed; allowed are registry.ollama.ai, hf.co",
          "path": "parameters.model",
        },
      ],
      "a list instead of an object": [
        {
          "expected": "object",
          "got": "array of 0",
          "message": "parameters: expected object, got array of 0",
          "path": "parameters",
        },
      ],
      "a million items": [
        {
          "expected": "at most 10000 items",
          "got": "array of 1000000",
          "message": "parameter "files": expected at most 10000 items, got array of 1000000",
          "path": "parameters.files",
        },
      ],
      "a prototype": [
        {
          "expected": "other keys than __proto__",
          "got": ""__proto__"",
          "message": "parameter "files": expected other keys than __proto__, got "__proto__"",
          "path": "parameters.files",
        },
      ],
      "a wrong item": [
        {
          "expected": "string",
          "got": "number 7",
          "message": "test.yaml:10:26: step "read", field "files[1]" (parameter "files"): expected string, got number 7",
          "path": "parameters.files",
        },
      ],
      "all wrong": [
        {
          "expected": "one of files, model, style, system, ctx",
          "got": "foo",
          "message": "unknown parameter "foo"; the template declares files, model, style, system, ctx",
          "path": "parameters.foo",
        },
        {
          "expected": "one of files, model, style, system, ctx",
          "got": "modle",
          "message": "unknown parameter "modle", did you mean "model"?; the template declares files, model, style, system, ctx",
          "path": "parameters.modle",
        },
        {
          "expected": "array",
          "got": "string "a"",
          "message": "parameter "files": expected array, got string "a"",
          "path": "parameters.files",
        },
        {
          "expected": "string",
          "got": "array of 1",
          "message": "parameter "model": expected string, got array of 1",
          "path": "parameters.model",
        },
        {
          "expected": "one of short, long",
          "got": "string "medium"",
          "message": "parameter "style": expected one of short, long, got string "medium"",
          "path": "parameters.style",
        },
        {
          "expected": "string",
          "got": "number 3",
          "message": "parameter "system": expected string, got number 3",
          "path": "parameters.system",
        },
        {
          "expected": "integer",
          "got": "number 1.5",
          "message": "parameter "ctx": expected integer, got number 1.5",
          "path": "parameters.ctx",
        },
      ],
      "an empty list": [
        {
          "expected": "at least 1 item",
          "got": "array of 0",
          "message": "test.yaml:10:26: step "read", field "files" (parameter "files"): expected at least 1 item, got array of 0",
          "path": "parameters.files",
        },
      ],
      "half a character": [
        {
          "expected": "well-formed Unicode",
          "got": "half of a surrogate pair",
          "message": "parameter "system": expected well-formed Unicode, got half of a surrogate pair",
          "path": "parameters.system",
        },
      ],
      "limits": [
        {
          "expected": "at most 3 items",
          "got": "array of 4",
          "message": "parameter "files": expected at most 3 items, got array of 4",
          "path": "parameters.files",
        },
        {
          "expected": "at least 256",
          "got": "number 1",
          "message": "parameter "ctx": expected at least 256, got number 1",
          "path": "parameters.ctx",
        },
      ],
      "many unknown names": [
        {
          "expected": "one of files, model, style, system, ctx",
          "got": "p13",
          "message": "unknown parameter "p13"; the template declares files, model, style, system, ctx",
          "path": "parameters.p13",
        },
        {
          "expected": "one of files, model, style, system, ctx",
          "got": "p14",
          "message": "unknown parameter "p14"; the template declares files, model, style, system, ctx",
          "path": "parameters.p14",
        },
        {
          "expected": "one of files, model, style, system, ctx",
          "got": "p15",
          "message": "unknown parameter "p15"; the template declares files, model, style, system, ctx",
          "path": "parameters.p15",
        },
        {
          "expected": "one of files, model, style, system, ctx",
          "got": "p16",
          "message": "unknown parameter "p16"; the template declares files, model, style, system, ctx",
          "path": "parameters.p16",
        },
        {
          "expected": "one of files, model, style, system, ctx",
          "got": "p17",
          "message": "unknown parameter "p17"; the template declares files, model, style, system, ctx",
          "path": "parameters.p17",
        },
        {
          "expected": "one of files, model, style, system, ctx",
          "got": "p18",
          "message": "unknown parameter "p18"; the template declares files, model, style, system, ctx",
          "path": "parameters.p18",
        },
        {
          "expected": "one of files, model, style, system, ctx",
          "got": "p19",
          "message": "unknown parameter "p19"; the template declares files, model, style, system, ctx",
          "path": "parameters.p19",
        },
        {
          "expected": "declared parameters",
          "got": "4980 more",
          "message": "4980 more unknown parameters",
          "path": "parameters",
        },
      ],
      "nothing": [
        {
          "expected": "array",
          "got": "nothing",
          "message": "parameter "files": expected array, got nothing",
          "path": "parameters.files",
        },
        {
          "expected": "string",
          "got": "nothing",
          "message": "parameter "model": expected string, got nothing",
          "path": "parameters.model",
        },
      ],
      "null": [
        {
          "expected": "object",
          "got": "null",
          "message": "parameters: expected object, got null",
          "path": "parameters",
        },
      ],
      "null for a required one": [
        {
          "expected": "string",
          "got": "null",
          "message": "parameter "model": expected string, got null",
          "path": "parameters.model",
        },
      ],
      "prototype as a name": [
        {
          "expected": "one of files, model, style, system, ctx",
          "got": "__proto__",
          "message": "unknown parameter "__proto__"; the template declares files, model, style, system, ctx",
          "path": "parameters.__proto__",
        },
        {
          "expected": "one of files, model, style, system, ctx",
          "got": "constructor",
          "message": "unknown parameter "constructor"; the template declares files, model, style, system, ctx",
          "path": "parameters.constructor",
        },
      ],
      "text": [
        {
          "expected": "object",
          "got": "string "x"",
          "message": "parameters: expected object, got string "x"",
          "path": "parameters",
        },
      ],
      "too deep": [
        {
          "expected": "at most 32 levels of nesting",
          "got": "more",
          "message": "parameter "files": expected at most 32 levels of nesting, got more",
          "path": "parameters.files",
        },
      ],
      "too many bytes": [
        {
          "expected": "at most 524288 bytes in all",
          "got": "600066 bytes",
          "message": "parameters: expected at most 524288 bytes in all, got 600066",
          "path": "parameters",
        },
      ],
    }
  `);
});

test('a pattern is kept to, and one that never ends is cut off', () => {
  const template = parsed(
    'name: x\nparameters:\n  - { name: a, type: string, pattern: "^(a+)+$", required: true }\nsteps:\n  - { type: read, files: "{{a}}" }',
  );
  expect(faultsOf(template, { a: 'aaa' })).toEqual([]);
  expect(faultsOf(template, { a: 'b' })[0]?.expected).toBe('text that matches ^(a+)+$');
  expect(faultsOf(template, { a: `${'a'.repeat(50)}b` })[0]?.got).toContain('takes too long');
});

test('an absent parameter inside of text is an error unless the template provides for it [TPL-15]', () => {
  const text = (prompt: string) =>
    parsed(
      `name: x\nparameters:\n  - { name: p, type: string }\nsteps:\n  - { type: read, files: a }\n  - { type: ask, model: m, prompt: ${JSON.stringify(prompt)} }`,
    );
  expect(faultsOf(text('Say {{ p }}'), {}).map((fault) => fault.message)).toMatchInlineSnapshot(`
    [
      "test.yaml:6:36: step "ask", field "prompt" (parameter "p"): "p" has no value; use the filter default or the test "is defined" where it may be absent",
    ]
  `);
  expect(faultsOf(text('{{ previous.text }} {{ p|upper }}'), {}).map((fault) => fault.path)).toEqual(['parameters.p']);
  expect(planOf(text("Say {{ p|default('hi') }}"), {}).steps[1]?.input['prompt']).toBe('Say hi');
  expect(planOf(text('Say{% if p is defined %} {{ p }}{% endif %}'), {}).steps[1]?.input['prompt']).toBe('Say');
});

test('the nearer level decides on retries: step, task, template, deployment, step type [TASK-15]', () => {
  const template = parsed(`
name: x
retry: { max_attempts: 4, backoff_coefficient: 3 }
steps:
  - { type: read, files: a, retry: { max_attempts: 7, non_retryable_errors: [mine] } }
  - { type: read, files: a }
  - { type: read, files: a, on_failure: skip }
  - { type: read, files: a, on_failure: skip, retry: { max_attempts: 2 } }
  - { type: read, files: a, on_failure: fail_workflow }
`);
  const plain = parsed('name: x\nsteps:\n  - { type: ask, model: m, prompt: p }');
  const attempts = (plan: ReturnType<typeof planOf>) => plan.steps.map((step) => step.retry.maximumAttempts);
  expect(attempts(planOf(template, {}))).toEqual([7, 4, 1, 2, 1]);
  expect(attempts(planOf(template, {}, { retry: { max_attempts: 2 } }))).toEqual([7, 2, 1, 2, 1]);
  expect(attempts(planOf(plain, {}))).toEqual([2]);
  expect(attempts(planOf(plain, {}, { deployment: { ...deployment, retry: { max_attempts: 9 } } }))).toEqual([9]);
  expect(planOf(template, {}, { retry: { initial_interval_seconds: 90 } }).steps[0]?.retry).toEqual({
    maximumAttempts: 7,
    initialIntervalMs: 90_000,
    backoffCoefficient: 3,
    maximumIntervalMs: 90_000,
    nonRetryable: ['no_such_file', 'mine'],
  });
});

test('an attempt of a step that names no time has what its type says, at most what the deployment says [SCHED-20, C27]', () => {
  const template = parsed('name: t\nsteps:\n  - { type: read, files: a }\n  - { type: read, files: a, timeout_seconds: 70 }\n');
  const times = (timeoutSeconds?: number) => planOf(template, {}, { deployment: { ...deployment, timeoutSeconds } }).steps.map((step) => step.startToCloseMs);
  const [typed = 0] = times();
  expect(times(3_600)).toEqual([Math.min(typed, 3_600_000), 70_000]);
  expect(times(20)).toEqual([20_000, 70_000]);
});

test("a time limit is the step's, at most the task's, and never beyond the deployment's [TASK-16]", () => {
  const template = parsed('name: x\nsteps:\n  - { type: read, files: a }\n  - { type: read, files: a, timeout_seconds: 90 }');
  const limits = (options: Parameters<typeof planOf>[2]) => planOf(template, {}, options).steps.map((step) => step.startToCloseMs);
  expect(limits({})).toEqual([60_000, 90_000]);
  expect(limits({ limits: { timeout_seconds: 70 } })).toEqual([60_000, 70_000]);
  expect(faultsOf(template, {}, { deployment: { ...deployment, timeoutSecondsMax: 80 } }).map((fault) => fault.message)).toMatchInlineSnapshot(`
    [
      "test.yaml:4:46: step "read_2", field "timeout_seconds": expected at most 80, got 90",
    ]
  `);
  expect(faultsOf(template, {}, { limits: { timeout_seconds: 4000 } }).map((fault) => fault.path)).toEqual(['limits.timeout_seconds']);
});

test('the title is what a person looks for in the Temporal Web UI, and short', () => {
  expect(planOf(chain, given).steps.map((step) => step.title)).toEqual(['step 1/3 read', 'step 2/3 ask llama3.1:latest', 'step 3/3 anything']);
  const long = planOf(parsed('name: x\nparameters:\n  - { name: m, type: string, required: true }\nsteps:\n  - { type: ask, model: "{{m}}", prompt: p }'), {
    m: `hf.co/${'o'.repeat(79)}/${'m'.repeat(79)}:Q4`,
  });
  expect(Buffer.byteLength(long.steps[0]?.title ?? '')).toBeLessThanOrEqual(200);
});

test('a parameter that stands in many steps cannot make a plan that Temporal refuses [bad-12]', () => {
  const repeat = parsed(
    `name: x\nparameters:\n  - { name: p, type: string, required: true }\nsteps:\n${'  - { type: ask, model: m, prompt: "{{p}}" }\n'.repeat(5)}`,
  );
  expect(faultsOf(repeat, { p: 'x'.repeat(400_000) })[0]?.expected).toContain('at most 1500000 bytes');
});
