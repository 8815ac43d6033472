import { randomUUID } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { createApp } from '../../../api/app.js';
import { routes } from '../../../api/routes/index.js';
import { listen } from '../../../api/server.js';
import { connect, disconnect } from '../../../db/connect.js';
import { acquireHost, setHostReady } from '../../../db/leases.js';
import { createServices, type Services } from '../../../service/services.js';
import { checkAnswer, declaredAnswers } from '../../support/answers.js';
import { type ApiUnderTest, apiConfig, apiUnderTest, silent } from './api-under-test.js';

// The answers that every operation has alike, table-driven over all of them: a new endpoint is covered by its line in `routes/index.ts`,
// and a new body by one line here. `npm test` fails when a declared answer was seen by no test, so the others of an endpoint need a test of their own.

const bodyBytesMax = 100_000;
let api: ApiUnderTest;
beforeAll(async () => {
  api = await apiUnderTest({ config: { bodyBytesMax } });
});
afterAll(async () => api.stop());

const task = { template: 'ollama-inference', parameters: { model: 'llama3.2', prompt: 'hello' } };
/** A body that fits, by operation. */
const bodies: Readonly<Record<string, object>> = {
  createTask: task,
  createTasks: { tasks: [task] },
  changeTasks: { action: 'cancel', ids: [randomUUID()] },
  replayTask: {},
  setTaskPriority: { priority: 5 },
  addTaskDependency: { task_id: randomUUID() },
  reorderQueue: { task_id: randomUUID(), before: randomUUID() },
  previewReorder: { task_id: randomUUID(), before: randomUUID() },
  pauseQueue: {},
  acquireLock: { task_id: randomUUID() },
  validateTemplate: { yaml: 'name: x' },
  createCheckpoint: {},
  loadModel: {},
  unloadModel: {},
  pullModel: {},
  signIn: { user: 'nobody', password: 'not the password' },
  createUser: { id: 'new', role: 'user', password: 'not the password' },
  changeUser: { role: 'user' },
  changeOwnPassword: { present: 'not the password', new: 'not the password' },
};

const operations = routes.map(({ access, route }) => {
  const [method, id] = [route.method.toUpperCase(), route.operationId ?? ''];
  return {
    access,
    id,
    method,
    takesBody: route.request?.body !== undefined,
    path: route.path,
    declares: (answer: string) => declaredAnswers().includes(`${method} ${route.path} ${answer}`),
    /** an address of this operation; nothing of the name it holds exists */
    url: route.path.replaceAll(/\{(\w+)\}/g, (_all, name: string) => (name === 'name' ? 'ollama-inference' : randomUUID())),
    headers: (key: string | null): Record<string, string> => ({
      Accept: 'application/json',
      ...(key === null ? {} : { 'X-API-Key': key }),
      ...(route.request?.body === undefined ? {} : { 'Content-Type': 'application/json' }),
    }),
  };
});
type Operation = (typeof operations)[number];
const closed = operations.filter(({ access }) => access !== 'public');
const withBody = operations.filter(({ takesBody }) => takesBody);

function operationOf(id: string): Operation {
  const found = operations.find((operation) => operation.id === id);
  if (found === undefined) throw new Error(`no operation ${id}`);
  return found;
}

/** Sends a request that fits, but for what is said otherwise, and checks the answer against its declaration. */
async function send(
  operation: Operation,
  by: { services?: Services; key?: string | null; query?: string; headers?: Record<string, string>; body?: string } = {},
): Promise<{ status: number; code: string | undefined; text: string }> {
  const app = createApp({ services: by.services ?? api.services, log: silent, config: { ...apiConfig, bodyBytesMax } });
  const answer = await app.request(`${operation.url}${by.query ?? ''}`, {
    method: operation.method,
    headers: { ...operation.headers(by.key === undefined ? api.keys.admin : by.key), ...by.headers },
    ...(operation.takesBody ? { body: by.body ?? JSON.stringify(bodies[operation.id]) } : {}),
  });
  await checkAnswer(operation.method, operation.path, answer);
  const text = await answer.text();
  return { status: answer.status, code: answer.headers.get('content-type') === 'application/problem+json' ? JSON.parse(text).code : undefined, text };
}

/** The use cases, but those that do more than tell who asks throw. */
function failing(services: Services, error: Error): Services {
  const thrower = new Proxy(() => {}, {
    get: () => thrower,
    apply: () => {
      throw error;
    },
  });
  return new Proxy(services, { get: (all, name) => (name === 'verifyKey' ? all.verifyKey.bind(all) : thrower) });
}

test('each operation that takes a body has one here that fits', async () => {
  expect(Object.keys(bodies).sort()).toEqual(withBody.map(({ id }) => id).sort());
  for (const operation of withBody) expect((await send(operation)).code).not.toBe('invalid_request');
});

describe.each(operations.filter(({ declares }) => declares('500 unexpected')).map((operation) => [operation.id, operation] as const))(
  '%s',
  (_id, operation) => {
    test('an error that nobody expected is answered as `unexpected`, and nothing of it is told [TASK-25, SEC-13]', async () => {
      const { status, code, text } = await send(operation, { services: failing(api.services, new Error('password=hunter2 at /srv/orchestra/db.ts')) });
      expect([status, code]).toEqual([500, 'unexpected']);
      expect(text).not.toMatch(/hunter2|orchestra\/db/);
    });
  },
);

test.each(operations.filter(({ declares }) => declares('503 unavailable')).map((operation) => [operation.id, operation] as const))(
  '%s says that it is unavailable while the database is away [TASK-25]',
  async (_id, operation) => {
    const sql = connect('postgres://nobody@127.0.0.1:1/none', { applicationName: 'api-test' });
    try {
      const { status, code } = await send(operation, { services: createServices({ ...api.deps, sql }) });
      expect([status, code]).toEqual([503, 'unavailable']);
    } finally {
      await disconnect(sql);
    }
  },
);

test.each(closed.map((operation) => [operation.id, operation] as const))('%s needs a key [SEC-01]', async (_id, operation) => {
  for (const key of [null, 'orc_wrong', `${api.keys.admin}x`]) {
    const { status, code } = await send(operation, { key });
    expect([status, code]).toEqual([401, 'unauthorized']);
  }
});

test.each(closed.map((operation) => [operation.id, operation] as const))('%s is refused to those who may not use it [SEC-05]', async (_id, operation) => {
  const refused = { read: [], write: ['viewer'], admin: ['viewer', 'ann'] } as const;
  for (const who of ['viewer', 'ann', 'admin'] as const) {
    const { code } = await send(operation, { key: api.keys[who] });
    const isRefused = operation.access !== 'public' && (refused[operation.access] as readonly string[]).includes(who);
    expect({ who, refused: code === 'forbidden' }).toEqual({ who, refused: isRefused });
  }
});

describe('with a session', () => {
  const sessions = new Map<string, string>();
  beforeAll(async () => {
    for (const who of ['viewer', 'ann', 'admin'] as const) sessions.set(who, (await api.services.signIn({ kind: 'key', key: api.keys[who] })).token);
  });
  const cookieOf = (token: string) => ({ Cookie: `orchestra_session=${token}`, Origin: 'http://localhost' });

  test.each(closed.map((operation) => [operation.id, operation] as const))('%s is refused to those who may not use it [SEC-05]', async (_id, operation) => {
    const refused = { public: [], read: [], write: ['viewer'], admin: ['viewer', 'ann'] } as const;
    for (const who of ['viewer', 'ann', 'admin'] as const) {
      // Signing out would end the session that the next operations are asked with.
      if (operation.id === 'signOut') continue;
      const { code } = await send(operation, { key: null, headers: cookieOf(sessions.get(who) ?? '') });
      const isRefused = (refused[operation.access] as readonly string[]).includes(who) || operation.id === 'createSignInTicket';
      expect({ who, refused: code === 'forbidden' }).toEqual({ who, refused: isRefused });
    }
  });

  test.each(closed.map((operation) => [operation.id, operation] as const))('%s is refused under a name that is not ours [DASH-21]', async (_id, operation) => {
    const token = sessions.get('admin') ?? '';
    const { status, code } = await send(operation, { key: null, headers: { ...cookieOf(token), Host: 'rebound.example', Origin: 'http://rebound.example' } });
    expect([status, code]).toEqual([403, 'forbidden']);
  });
});

describe('with a password', () => {
  beforeAll(async () => {
    for (let number = 0; number < 10; number++) await api.services.verifyPassword('guessed', `guess ${number}`);
  });
  const headers = { Authorization: `Basic ${Buffer.from('guessed:the right one').toString('base64')}` };

  test.each(closed.map((operation) => [operation.id, operation] as const))('%s is refused after too many wrong ones [DASH-15]', async (_id, operation) => {
    const { status, code } = await send(operation, { key: null, headers });
    expect([status, code]).toEqual([429, 'too_many_attempts']);
  });
});

test.each(operations.filter(({ method }) => method !== 'GET').map((operation) => [operation.id, operation] as const))(
  '%s is refused to the page of another site [bad-10]',
  async (_id, operation) => {
    const { status, code } = await send(operation, { headers: { Origin: 'https://elsewhere.example' } });
    expect([status, code]).toEqual([403, 'forbidden']);
  },
);

test.each(operations.map((operation) => [operation.id, operation] as const))(
  '%s refuses a parameter that it does not know [SEC-10]',
  async (_id, operation) => {
    const { status, code } = await send(operation, { query: '?nothing_of_this_name=1' });
    expect([status, code]).toEqual([422, 'invalid_request']);
  },
);

test.each(withBody.map((operation) => [operation.id, operation] as const))(
  '%s takes JSON that fits, and nothing else [TASK-25, bad-1, bad-2]',
  async (_id, operation) => {
    const codes = async (by: Parameters<typeof send>[1]) => {
      const { status, code } = await send(operation, by);
      return [status, code];
    };
    expect(await codes({ body: '{"' })).toEqual([400, 'invalid_json']);
    expect(await codes({ headers: { 'Content-Type': 'text/plain' } })).toEqual([415, 'unsupported_media_type']);
    expect(await codes({ body: JSON.stringify({ x: 'x'.repeat(bodyBytesMax) }) })).toEqual([413, 'payload_too_large']);
    expect(await codes({ body: '{"nothing_of_this_name":1}' })).toEqual([422, 'invalid_request']);
    expect(await codes({ body: '[]' })).toEqual([422, 'invalid_request']);
  },
);

test('each operation refuses an address with headers that are larger than a server reads [TASK-25, bad-1]', async () => {
  const app = createApp({ services: api.services, log: silent, config: apiConfig });
  const server = await listen(app, { hostname: '127.0.0.1', port: 0, log: silent });
  try {
    for (const { method, path, url } of operations) {
      const answer = await fetch(`http://127.0.0.1:${server.port}${url}?x=${'x'.repeat(17_000)}`, { method });
      await checkAnswer(method, path, answer);
      expect(await answer.json()).toMatchObject({ status: 431, code: 'headers_too_large' });
    }
  } finally {
    await server.close();
  }
});

const notThere = ['task_not_found', 'unknown_template', 'unknown_checkpoint', 'unknown_user'] as const;
test.each(
  operations.flatMap((operation) => notThere.filter((code) => operation.declares(`404 ${code}`)).map((code) => [operation.id, code, operation] as const)),
)('%s of what is not there is answered with %s', async (_id, code, operation) => {
  const url = operation.url.replace('/ollama-inference', '/no-such-template');
  expect(await send({ ...operation, url })).toMatchObject({ status: 404, code });
});

describe('answers of one operation', () => {
  const ask = (method: string, url: string, body?: unknown) => api.request(api.keys.ann, method, url, body);
  const seen = async (answer: Response) => [answer.status, ((await answer.json()) as { code?: string }).code];

  test('a replay waits for no task that is not there [TASK-25]', async () => {
    const { id } = await api.task(api.keys.ann);
    expect(await seen(await ask('POST', `/api/v1/tasks/${id}/replay`, { depends_on: [randomUUID()] }))).toEqual([422, 'invalid_dependency']);
  });

  test('a task that nothing ran has no executions [TASK-25]', async () => {
    const { id } = await api.task(api.keys.ann);
    expect(await (await ask('GET', `/api/v1/tasks/${id}/executions`)).json()).toEqual({ items: [] });
  });

  test('a model that no host can have, hold or change just now is refused for its reason [MODEL-15]', async () => {
    const order = async (action: string, deployment = api.deps.deployment) =>
      send({ ...operationOf(`${action}Model`), url: `/api/v1/models/small/${action}` }, { services: createServices({ ...api.deps, deployment }) });
    for (const action of ['load', 'unload', 'pull']) expect(await order(action)).toMatchObject({ status: 503, code: 'host_unavailable' });
    const { sql } = api.database;
    const epoch = await acquireHost(sql, { host: 'h1', address: 'http://127.0.0.1:1', parallel: 1 });
    await setHostReady(sql, 'h1', epoch, true, {});
    const noPull = { ...api.deps.deployment, mayPull: false };
    for (const action of ['load', 'pull']) expect(await order(action, noPull)).toMatchObject({ status: 404, code: 'unknown_model' });
    expect(await order('load')).toMatchObject({ status: 202 });
    for (let nth = 0; nth < 8; nth += 1) expect(await order('pull')).toMatchObject({ status: 202 }); // as many as a host fetches for people at once
    for (const action of ['load', 'unload', 'pull']) expect(await order(action)).toMatchObject({ status: 409, code: 'model_busy' });
  });

  test('an API whose database answers is ready [TASK-25]', async () => {
    expect(await (await ask('GET', '/readyz')).json()).toEqual({ status: 'ok' });
  });

  test('a replay is refused when the queue is full, and a stream of a task when there are too many [TASK-24, bad-52]', async () => {
    const { id } = await api.task(api.keys.ann);
    const services = createServices({ ...api.deps, config: { ...api.deps.config, queueMax: 1 }, events: { ...api.deps.events, streamsMax: 0 } });
    const operation = (name: string) => ({ ...operationOf(name), url: operationOf(name).path.replace('{taskId}', id) });
    try {
      expect(await send(operation('replayTask'), { services })).toMatchObject({ status: 503, code: 'queue_full' });
      expect(await send(operation('streamTaskEvents'), { services, headers: { Accept: 'text/event-stream' } })).toMatchObject({
        status: 429,
        code: 'too_many_streams',
      });
    } finally {
      await services.endStreams();
    }
  });
});
