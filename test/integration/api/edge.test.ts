import { readFile } from 'node:fs/promises';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { createApp } from '../../../api/app.js';
import { openApiText } from '../../../api/openapi.js';
import { routes } from '../../../api/routes/index.js';
import { serveDashboard } from '../../../dashboard/serve-dashboard.js';
import { type ApiUnderTest, apiConfig, apiUnderTest, silent } from './api-under-test.js';

const bodyBytesMax = 100_000;
let api: ApiUnderTest;
beforeAll(async () => {
  api = await apiUnderTest({ config: { bodyBytesMax } });
});
afterAll(async () => api.stop());

const tasks = '/api/v1/tasks';
const valid = { template: 'ollama-inference', parameters: { model: 'llama3.2', prompt: 'hello' } };
const codeOf = async (answer: Response) => ((await answer.json()) as { code: string }).code;
const app = (config: Partial<typeof apiConfig> = {}) => createApp({ services: api.services, log: silent, config: { ...apiConfig, bodyBytesMax, ...config } });
const send = async (body: string | Uint8Array<ArrayBuffer> | ReadableStream, headers: Record<string, string> = { 'Content-Type': 'application/json' }) =>
  app().request(tasks, { method: 'POST', headers: { 'X-API-Key': api.keys.ann, ...headers }, body, duplex: 'half' } as RequestInit);
const stored = async () => Number((await api.database.sql`select count(*) from tasks`)[0]?.['count']);
const nested = (depth: number) => `${'['.repeat(depth)}${']'.repeat(depth)}`;

describe('bodies', () => {
  test('a body that is too large is refused before it is parsed, whether its size is declared or not [bad-1]', async () => {
    const big = JSON.stringify({ ...valid, description: 'x'.repeat(200_000) });
    const declared = await send(big, { 'Content-Type': 'application/json', 'Content-Length': String(big.length) });
    expect([declared.status, await codeOf(declared)]).toEqual([413, 'payload_too_large']);
    let sentBytes = 0;
    const endless = new ReadableStream<Uint8Array>({
      pull(controller) {
        sentBytes += 10_000;
        controller.enqueue(new Uint8Array(10_000).fill(32));
      },
    });
    const chunked = await send(endless);
    expect(chunked.status).toBe(413);
    expect(sentBytes).toBeLessThan(1_000_000);
  });

  test('the answer to a body with thousands of faults tells a hundred of them and how many more there are [bad-12]', async () => {
    const answer = await send(JSON.stringify(Object.fromEntries(Array.from({ length: 7_000 }, (_, index) => [`k${index}`, 1]))));
    const text = await answer.text();
    expect(answer.status).toBe(422);
    expect(text.length).toBeLessThan(20_000);
    const { errors } = JSON.parse(text) as { errors: readonly { message: string }[] };
    expect([errors.length, errors.at(-1)?.message]).toEqual([101, '6901 more faults are not shown.']);
  });

  test('a compressed body is refused, not decompressed [bad-1]', async () => {
    const answer = await send(JSON.stringify(valid), { 'Content-Type': 'application/json', 'Content-Encoding': 'gzip' });
    expect([answer.status, await codeOf(answer)]).toEqual([415, 'unsupported_media_type']);
  });

  test.each([
    ['truncated JSON', '{"template": "oll'],
    ['no JSON', 'template=x'],
    ['an empty body', ''],
    ['a byte order mark', `${String.fromCharCode(0xfeff)}${JSON.stringify(valid)}`],
    ['UTF-16', new Uint8Array(Buffer.from(JSON.stringify(valid), 'utf16le'))],
    ['bytes that are no UTF-8', new Uint8Array([0x22, 0xff, 0x22])],
    ['the same key twice', '{"template":"a","template":"b"}'],
    ['the same key twice, once escaped', '{"template":"a","templat\\u0065":"b"}'],
    ['the same key twice, deep inside', '{"template":"a","metadata":{"x":[{"y":1,"y":2}]}}'],
  ])('%s is refused [TASK-25, bad-2]', async (_what, body) => {
    const answer = await send(body);
    expect([answer.status, await codeOf(answer)]).toEqual([400, 'invalid_json']);
  });

  test.each([
    ['text/plain'],
    ['application/x-www-form-urlencoded'],
    ['application/json; charset=utf-16'],
    ['application/jsonp'],
    ['multipart/form-data; boundary=x'],
  ])('the content type %s is refused [TASK-25, bad-2]', async (type) => {
    const answer = await send(JSON.stringify(valid), { 'Content-Type': type });
    expect([answer.status, await codeOf(answer)]).toEqual([415, 'unsupported_media_type']);
  });

  test('nesting of any depth is refused, and the process lives [bad-3]', async () => {
    for (const depth of [33, 40_000]) {
      const answer = await send(`{"template":"x","metadata":{"a":${nested(depth)}}}`);
      expect(await answer.json()).toMatchObject({ code: 'invalid_json', detail: expect.stringContaining('depth > 32') });
    }
    const sound = await send(`{"template":"ollama-inference","parameters":{"model":"llama3.2","prompt":"p"},"metadata":{"a":${nested(30)}}}`);
    expect(sound.status).toBe(201);
  });

  test.each([['__proto__'], ['constructor'], ['prototype'], ['\\u005f_proto__']])(
    'the key %s is refused at any depth, and changes no prototype [bad-4]',
    async (key) => {
      const answer = await send(`{"template":"x","metadata":{"a":{"${key}":{"polluted":true}}}}`);
      expect([answer.status, await codeOf(answer)]).toEqual([400, 'invalid_json']);
      expect(({} as { polluted?: boolean }).polluted).toBeUndefined();
    },
  );

  test.each([['NaN'], ['1e999'], ['"a\\u0000b"'], ['"\\ud800"'], ['{"\\udfff":1}']])('the value %s is refused [bad-5]', async (value) => {
    const answer = await send(`{"template":"x","metadata":{"a":${value}}}`);
    expect([answer.status, await codeOf(answer)]).toEqual([400, 'invalid_json']);
  });

  test('unusual but sound values come back as they are [bad-5]', async () => {
    const metadata = { emoji: String.fromCodePoint(0x1f600), zero: 0, big: 1e300, text: 'a\\"{[:', '': 'empty key' };
    const answer = await send(JSON.stringify({ ...valid, metadata }));
    expect(await answer.json()).toMatchObject({ metadata });
  });

  test.each([['[]'], ['"x"'], ['null'], ['7'], ['{}'], ['{"template":7}'], ['{"template":"x","extra":1}'], ['{"template":"x","parameters":[]}']])(
    'the body %s does not fit the schema [TASK-25]',
    async (body) => {
      const answer = await send(body);
      expect([answer.status, await codeOf(answer)]).toEqual([422, 'invalid_request']);
    },
  );

  test('no value in any field is answered with 500 or stores a task of a template that is not there [TASK-25]', async () => {
    const before = await stored();
    const values = [null, true, 0, -1, 1e21, '', 'x', [], {}, [[]], { a: null }, 'x'.repeat(5000)];
    for (const field of [
      'template',
      'parameters',
      'depends_on',
      'priority',
      'name',
      'description',
      'metadata',
      'retry',
      'limits',
      'resource_requirements',
      'agent_assigned',
    ]) {
      for (const value of values) {
        const answer = await api.request(api.keys.ann, 'POST', tasks, { template: 'absent', [field]: value });
        expect([400, 422]).toContain(answer.status);
      }
    }
    expect(await stored()).toBe(before);
  });
});

describe('credentials', () => {
  test('every route that is not public answers 401 without credentials, before it looks at anything else [SEC-01]', async () => {
    const guarded = routes.filter(({ access }) => access !== 'public');
    expect(guarded.length).toBeGreaterThan(7);
    expect(routes.flatMap(({ access, route }) => (access === 'public' ? [route.path] : [])).sort()).toEqual(['/api/v1/sessions', '/healthz', '/readyz']);
    for (const { route } of guarded) {
      const answer = await api.request(null, route.method.toUpperCase(), route.path.replace('{taskId}', 'x'));
      expect(answer.status).toBe(401);
      expect(answer.headers.get('www-authenticate')).toContain('Bearer');
      expect(await codeOf(answer)).toBe('unauthorized');
    }
  });

  test.each<[string, Record<string, string>]>([
    ['an empty Bearer', { Authorization: 'Bearer ' }],
    ['a key of 1 MB', { 'X-API-Key': 'x'.repeat(1_000_000) }],
    ['SQL', { 'X-API-Key': `' OR 1=1 --` }],
    ['a key of the right form', { 'X-API-Key': `orc_0123456789ab_${'A'.repeat(43)}` }],
    ['Basic', { Authorization: `Basic ${Buffer.from('admin:admin').toString('base64')}` }],
  ])('%s is no credential [bad-7]', async (_what, headers) => {
    const answer = await api.request(null, 'GET', tasks, undefined, headers);
    expect([answer.status, await codeOf(answer)]).toEqual([401, 'unauthorized']);
  });

  test('a valid key beside another one is refused, since nobody can say which is meant [bad-7]', async () => {
    const answer = await api.request(api.keys.ann, 'GET', tasks, undefined, { Authorization: `Bearer ${api.keys.bob}` });
    expect(answer.status).toBe(401);
  });

  test('a key works in its header and as Bearer [SEC-02]', async () => {
    expect((await api.request(api.keys.ann, 'GET', tasks)).status).toBe(200);
    expect((await api.request(null, 'GET', tasks, undefined, { Authorization: `Bearer ${api.keys.ann}` })).status).toBe(200);
  });

  test('a viewer reads and changes nothing', async () => {
    const task = await api.task(api.keys.ann);
    expect((await api.request(api.keys.viewer, 'GET', `${tasks}/${task.id}`)).status).toBe(200);
    const changes = [
      ['POST', tasks],
      ['DELETE', `${tasks}/${task.id}`],
      ['PATCH', `${tasks}/${task.id}/priority`],
      ['POST', `${tasks}/${task.id}/retry`],
    ] as const;
    for (const [method, url] of changes) {
      const answer = await api.request(api.keys.viewer, method, url);
      expect([answer.status, await codeOf(answer)]).toEqual([403, 'forbidden']);
    }
  });

  test.each([
    ['//api/v1/tasks'],
    ['/api/v1/tasks/../admin'],
    ['/api/v1/%2e%2e/admin'],
    ['/api/v1/tasks/x/health'],
    ['/api/v1/tasks/'],
    ['/api/v1/configs'],
    ['/api/v1'],
  ])('the spelling %s does not get past authentication [bad-6]', async (url) => {
    const answer = await api.request(null, 'GET', `http://localhost${url}`);
    expect([401, 404]).toContain(answer.status);
  });

  test('a method override is not followed [bad-6]', async () => {
    const task = await api.task(api.keys.ann);
    const answer = await api.request(api.keys.ann, 'GET', `${tasks}/${task.id}`, undefined, { 'X-HTTP-Method-Override': 'DELETE' });
    expect(await answer.json()).toMatchObject({ status: 'queued' });
  });

  test('a known address under another method says which it takes [TASK-25]', async () => {
    const answer = await api.request(api.keys.ann, 'PUT', tasks);
    expect([answer.status, answer.headers.get('allow')]).toEqual([405, 'POST, GET']);
  });
});

describe('browsers', () => {
  test.each<[Record<string, string>]>([[{ Origin: 'http://evil.example' }], [{ Origin: 'null' }], [{ 'Sec-Fetch-Site': 'cross-site' }]])(
    'a change with %j is refused [bad-10]',
    async (headers) => {
      const answer = await api.request(api.keys.ann, 'POST', tasks, valid, headers);
      expect([answer.status, await codeOf(answer)]).toEqual([403, 'forbidden']);
    },
  );

  test('pages are not shown under a foreign name [bad-10]', async () => {
    const served = app();
    serveDashboard(served);
    for (const [host, status] of [
      ['evil.com', 403],
      ['localhost:8080', 200],
      ['127.0.0.1', 200],
      ['[::1]:8080', 200],
    ] as const) {
      for (const page of ['/sign-in', '/']) {
        const answer = await served.request(page, { headers: { Host: host, 'X-API-Key': api.keys.ann } });
        expect([page, answer.status]).toEqual([page, status]);
      }
    }
  });

  test('without a sign-in a page leads to it, which names no task and runs only its own scripts [SEC-01, DASH-21]', async () => {
    const task = await api.task(api.keys.ann, { name: 'secret-project' });
    const served = app();
    serveDashboard(served);
    const headers = { Host: 'localhost:8080' };
    const led = await served.request('/?priority=9', { headers });
    expect([led.status, led.headers.get('location')]).toEqual([303, '/sign-in?to=%2F%3Fpriority%3D9']);
    const answer = await served.request('/sign-in', { headers });
    const page = await answer.text();
    for (const rule of ["default-src 'none'", "script-src 'self'", "style-src 'self'", "frame-ancestors 'none'"])
      expect(answer.headers.get('content-security-policy')).toContain(rule);
    for (const unwanted of [task.id, 'secret-project']) expect(page).not.toContain(unwanted);
    expect(page.match(/<script(?! src="\/assets\/)/g)).toBeNull();
    expect((await served.request('/live?topics=queue', { headers })).status).toBe(401);
  });

  test('every answer has its security headers and its request id [SEC-16, TASK-25]', async () => {
    for (const url of ['/healthz', '/nothing', tasks, '/docs']) {
      const answer = await api.request(null, 'GET', url);
      expect(answer.headers.get('x-content-type-options')).toBe('nosniff');
      expect(answer.headers.get('content-security-policy')).toContain("default-src 'none'");
      expect(answer.headers.get('x-request-id')).toMatch(/^[0-9a-f-]{36}$/);
    }
    const answer = await api.request(null, 'GET', tasks, undefined, { 'X-Request-Id': 'trace-12345' });
    expect(answer.headers.get('x-request-id')).toBe('trace-12345');
    expect(await answer.json()).toMatchObject({ request_id: 'trace-12345' });
  });

  test('the page at /docs works without the internet [OPS-05]', async () => {
    const page = await (await api.request(null, 'GET', '/docs', undefined, { Host: 'localhost' })).text();
    const urls = [...page.matchAll(/(?:src|href)="([^"]+)"/g)].map((match) => match[1] ?? '');
    expect(urls.length).toBeGreaterThan(3);
    for (const url of urls) {
      expect(url).toMatch(/^\/docs\//);
      expect((await api.request(null, 'GET', url, undefined, { Host: 'localhost' })).status).toBe(200);
    }
  });
});

describe('queries', () => {
  test.each([
    ['limit=-1'],
    ['limit=0'],
    ['limit=501'],
    ['limit=1e9'],
    ['limit=1000000000'],
    ['limit=x'],
    ['limit=5&limit=6'],
    ['cursor=forged'],
    ['cursor='],
    ['sort=id;drop'],
    ['status=done'],
    ['priority=0'],
    ['priority=high'],
    ['created_after=yesterday'],
    ['created_after=2026-02-01T00:00:00Z&created_before=2026-01-01T00:00:00Z'],
    ['ended_after=yesterday'],
    ['ended_after=2026-02-01T00:00:00Z&ended_before=2026-01-01T00:00:00Z'],
  ])('the query %s is refused [TASK-08, bad-17]', async (query) => {
    const answer = await api.request(api.keys.ann, 'GET', `${tasks}?${query}`);
    expect([answer.status, await codeOf(answer)]).toEqual([422, 'invalid_request']);
  });

  test('a query is refused where none is taken [SEC-10]', async () => {
    expect((await api.request(api.keys.ann, 'GET', '/api/v1/models?x=1')).status).toBe(422);
  });

  test('models are listed with their memory and the steps that wait for them [MODEL-15]', async () => {
    await api.database.sql`
      insert into models (host, name, digest, size_bytes, loaded, memory_bytes, vram_bytes, context_length, expires_at)
      values ('local', 'llama3.2:latest', 'sha256:ab', 2000000000, true, 3000000000, 0, 4096, '2026-01-01T00:00:00Z')`;
    const answer = await api.request(api.keys.viewer, 'GET', '/api/v1/models');
    expect(await answer.json()).toEqual({
      items: [
        {
          name: 'llama3.2:latest',
          host: 'local',
          digest: 'sha256:ab',
          size_bytes: 2e9,
          loaded: true,
          memory_bytes: 3e9,
          vram_bytes: 0,
          shares_memory_with: [],
          context_length: 4096,
          queue_depth: 0,
          last_used_at: null,
          expires_at: '2026-01-01T00:00:00.000Z',
          aliases: [],
          serving: false,
          pull: null,
          usage: { inferences: 0, inference_time_seconds: 0, prompt_tokens: 0, output_tokens: 0 },
        },
      ],
      hosts: [],
      aliases: [],
    });
  });
});

test('an address that another one with a parameter would fit tells its own methods [TASK-25]', async () => {
  const answer = await app().request(`${tasks}/batch`, { method: 'OPTIONS', headers: { 'X-API-Key': api.keys.ann } });
  expect([answer.status, answer.headers.get('allow')]).toEqual([405, 'POST']);
});

describe('the OpenAPI document', () => {
  interface Document {
    readonly paths: Record<string, Record<string, { summary?: string; description?: string; operationId?: string; responses: object }>>;
    readonly components: { readonly schemas: Record<string, { example?: unknown }> };
  }

  test('it refers to nothing that it lacks, and a task without a result fits it [OPS-05]', () => {
    const text = openApiText();
    const { schemas } = (JSON.parse(text) as Document).components;
    for (const [, name = ''] of text.matchAll(/"#\/components\/schemas\/(\w+)"/g)) expect(Object.keys(schemas)).toContain(name);
    expect(schemas['Task']).toMatchObject({ properties: { result: { type: ['object', 'null'] } } });
  });

  test('openapi.json is what the routes say; `npm run openapi` renews it [OPS-05]', async () => {
    expect(openApiText()).toBe(await readFile('openapi.json', 'utf8'));
  });

  test('every route has a summary, a description, an operation id, examples and errors [OPS-05]', () => {
    const document = JSON.parse(openApiText()) as Document;
    const operations = Object.values(document.paths).flatMap((path) => Object.values(path));
    expect(operations).toHaveLength(routes.length);
    expect(new Set(operations.map(({ operationId }) => operationId)).size).toBe(routes.length);
    for (const operation of operations) {
      for (const text of [operation.summary, operation.description]) expect(text?.length ?? 0).toBeGreaterThan(5);
      expect(Object.keys(operation.responses).some((status) => Number(status) >= 400)).toBe(true);
    }
    for (const name of ['Task', 'CreateTask', 'PriorityChange', 'Problem', 'Model', 'HealthCheck'])
      expect(document.components.schemas[name]?.example).toBeDefined();
  });

  test('the document is open to everybody unless it is closed [SEC-01]', async () => {
    expect((await api.request(null, 'GET', '/openapi.json', undefined, { Host: 'localhost' })).status).toBe(200);
    const closed = app({ publicDocs: false });
    for (const url of ['/openapi.json', '/docs', '/docs/swagger-ui.css']) expect((await closed.request(url)).status).toBe(401);
    expect((await closed.request('/openapi.json', { headers: { 'X-API-Key': api.keys.viewer } })).status).toBe(200);
  });
});
