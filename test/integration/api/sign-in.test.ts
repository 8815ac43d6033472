import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { createApp } from '../../../api/app.js';
import { authenticate } from '../../../api/auth/authenticate.js';
import { apiConfig, type ApiUnderTest, apiUnderTest, silent } from './api-under-test.js';
import { createServices } from '../../../service/services.js';
import { createLogger } from '../../../logging.js';

const password = 'correct horse battery';
let api: ApiUnderTest;
beforeAll(async () => {
  api = await apiUnderTest({ config: { allowedHosts: ['orchestra.example'] } });
});
afterAll(async () => api.stop());
beforeEach(async () => {
  await api.database.sql`delete from sign_in_failures`;
  await api.database.sql`delete from users`;
  await addUser('ann');
});

async function addUser(id: string, role = 'user'): Promise<void> {
  const answer = await api.request(api.keys.admin, 'POST', '/api/v1/users', { id, role, password });
  expect(answer.status).toBe(201);
}

type Headers = Record<string, string>;
const fromHere: Headers = { Origin: 'http://localhost' };
const signIn = (body: object, headers: Headers = {}) => api.request(null, 'POST', '/api/v1/sessions', body, headers);
const tokenOf = (answer: Response) => /orchestra_session=([^;]*)/.exec(answer.headers.get('set-cookie') ?? '')?.[1] ?? '';
const sessionOf = async (body: object) => {
  const answer = await signIn(body);
  expect(answer.status).toBe(201);
  return tokenOf(answer);
};
const annsSession = () => sessionOf({ user: 'ann', password });
const withSession = (token: string, method: string, url: string, body?: unknown, headers: Headers = fromHere) =>
  api.request(null, method, url, body, { Cookie: `theme=dark; orchestra_session=${token}`, ...headers });
const basic = (user: string, secret: string): Headers => ({ Authorization: `Basic ${Buffer.from(`${user}:${secret}`).toString('base64')}` });
const current = '/api/v1/sessions/current';
const outcome = async (answer: Response) => {
  const body = (await answer.json()) as { code?: string; detail?: string };
  return { status: answer.status, code: body.code, detail: body.detail };
};
/** As another process of the API sees it, which has no verdicts of its own. */
const elsewhere = () => createServices(api.deps);

describe('signing in', () => {
  test('a user with the right password gets a session, in a cookie that no script reads [DASH-15]', async () => {
    const answer = await signIn({ user: 'ann', password });
    expect(answer.status).toBe(201);
    expect(await answer.json()).toMatchObject({ user_id: 'ann', role: 'user' });
    const cookie = answer.headers.get('set-cookie') ?? '';
    expect(cookie).toMatch(/^orchestra_session=ors_[A-Za-z0-9_-]{43}; Max-Age=604800; Path=\/; HttpOnly; SameSite=Lax$/);
    expect(answer.headers.get('cache-control')).toBe('no-store');
    const who = await withSession(tokenOf(answer), 'GET', current);
    expect(await who.json()).toMatchObject({ user_id: 'ann', role: 'user', by: 'session', has_password: true });
  });

  test('behind a proxy with TLS the cookie goes over TLS only [DASH-15]', async () => {
    const answer = await signIn({ user: 'ann', password }, { 'X-Forwarded-Proto': 'https' });
    expect(answer.headers.get('set-cookie')).toMatch(/; Secure$/);
  });

  test('an unknown user, a wrong password and a disabled user are refused in the same words [DASH-15, bad-7]', async () => {
    await addUser('off');
    await api.request(api.keys.admin, 'PATCH', '/api/v1/users/off', { disabled: true });
    const refusals = [];
    for (const body of [
      { user: 'ann', password: 'wrong horse battery' },
      { user: 'nobody', password },
      { user: 'off', password },
      { user: 'Ann; drop table users', password },
      { user: 'ann', password: '' },
    ])
      refusals.push(await outcome(await signIn(body)));
    for (const refusal of refusals) expect(refusal).toEqual(refusals[0]);
    expect(refusals[0]).toMatchObject({ status: 401, code: 'unauthorized' });
  });

  test('a body that names nobody, or two, is refused [SEC-10]', async () => {
    for (const body of [
      {},
      { user: 'ann' },
      { password },
      { user: 'ann', password, key: 'x' },
      { user: '', password },
      { user: 'ann', password: 'x'.repeat(201) },
    ])
      expect((await signIn(body)).status).toBe(422);
  });

  test('an API key opens a session with its rights; a wrong one does not [DASH-15]', async () => {
    const token = await sessionOf({ key: api.keys.viewer });
    expect(await (await withSession(token, 'GET', current)).json()).toMatchObject({ user_id: 'ann', role: 'viewer', by: 'session' });
    expect(await outcome(await signIn({ key: `${api.keys.viewer}x` }))).toMatchObject({ status: 401, code: 'unauthorized' });
  });

  test('a cookie that was there before is never taken on, and its session ends [DASH-15]', async () => {
    const planted = 'ors_'.padEnd(47, 'A');
    const before = await annsSession();
    const answer = await signIn({ user: 'ann', password }, { Cookie: `orchestra_session=${planted}` });
    expect(tokenOf(answer)).not.toBe(planted);
    expect((await withSession(planted, 'GET', current)).status).toBe(401);
    await signIn({ user: 'ann', password }, { Cookie: `orchestra_session=${before}` });
    expect((await withSession(before, 'GET', current)).status).toBe(401);
  });

  test('a page of another site, or of a name that is not ours, signs nobody in [DASH-21]', async () => {
    expect((await signIn({ user: 'ann', password }, { Origin: 'https://elsewhere.example' })).status).toBe(403);
    expect((await signIn({ user: 'ann', password }, { Host: 'rebound.example', Origin: 'http://rebound.example' })).status).toBe(403);
    expect((await signIn({ user: 'ann', password }, { Host: 'orchestra.example:8080' })).status).toBe(201);
  });
});

describe('tickets', () => {
  const ticketOf = async (who: string) => {
    const answer = await api.request(who, 'POST', '/api/v1/sign-in-tickets');
    expect(answer.status).toBe(201);
    return ((await answer.json()) as { ticket: string }).ticket;
  };

  test('a ticket opens one session with the rights of its key, once [DASH-15]', async () => {
    const ticket = await ticketOf(api.keys.bob);
    const token = await sessionOf({ ticket });
    expect(await (await withSession(token, 'GET', current)).json()).toMatchObject({ user_id: 'bob', role: 'user', has_password: false });
    expect(await outcome(await signIn({ ticket }))).toMatchObject({ status: 401, code: 'unauthorized' });
  });

  test('of many who use it at once one wins [DASH-15]', async () => {
    const ticket = await ticketOf(api.keys.ann);
    const answers = await Promise.all(Array.from({ length: 8 }, () => signIn({ ticket })));
    expect(answers.map(({ status }) => status).sort()).toEqual([201, ...Array.from({ length: 7 }, () => 401)]);
  });

  test('a ticket that is too old, or whose key is void, opens nothing [DASH-15]', async () => {
    const old = await ticketOf(api.keys.ann);
    await api.database.sql`update sign_in_tickets set expires_at = now() - interval '1 second'`;
    expect((await signIn({ ticket: old })).status).toBe(401);
    const { id, key } = await api.services.createKey({ name: 'x', userId: 'ann', role: 'user', expiresAt: null });
    const ticket = await ticketOf(key);
    await api.services.revokeKey(id);
    expect((await signIn({ ticket })).status).toBe(401);
    for (const text of ['', 'ort_', 'x'.repeat(200)]) expect([401, 422]).toContain((await signIn({ ticket: text })).status);
  });

  test('only a key makes one: a session or a password cannot outlive itself with it [DASH-15]', async () => {
    expect((await withSession(await annsSession(), 'POST', '/api/v1/sign-in-tickets')).status).toBe(403);
    expect((await api.request(null, 'POST', '/api/v1/sign-in-tickets', undefined, basic('ann', password))).status).toBe(403);
  });
});

describe('a session', () => {
  test('a change needs a page of this server; a key or a password does not [DASH-21]', async () => {
    const token = await annsSession();
    const { id } = await api.task(api.keys.ann);
    const hold = (headers: Headers) => withSession(token, 'POST', `/api/v1/tasks/${id}/hold`, undefined, headers);
    const refused: readonly Headers[] = [
      {},
      { Origin: 'null' },
      { Origin: 'http://localhost:3000' },
      { Origin: 'https://elsewhere.example' },
      { 'Sec-Fetch-Site': 'cross-site' },
      { 'Sec-Fetch-Site': 'same-site' },
      { 'Sec-Fetch-Site': 'none' },
      { Origin: 'http://rebound.example', Host: 'rebound.example', 'Sec-Fetch-Site': 'same-origin' },
    ];
    for (const headers of refused) expect({ headers, ...(await outcome(await hold(headers))) }).toMatchObject({ headers, status: 403, code: 'forbidden' });
    for (const headers of [fromHere, { 'Sec-Fetch-Site': 'same-origin' }, { Host: 'orchestra.example', Origin: 'https://orchestra.example' }])
      expect((await hold(headers)).status).toBe(200);
    expect((await api.request(api.keys.ann, 'POST', `/api/v1/tasks/${id}/hold`)).status).toBe(200);
    expect((await api.request(null, 'POST', `/api/v1/tasks/${id}/hold`, undefined, basic('ann', password))).status).toBe(200);
  });

  test('a page elsewhere reads nothing with it, save that a link may lead here [DASH-21]', async () => {
    const token = await annsSession();
    const read = async (headers: Headers) => (await withSession(token, 'GET', '/api/v1/tasks', undefined, headers)).status;
    expect(await read({})).toBe(200);
    expect(await read({ 'Sec-Fetch-Site': 'same-origin', 'Sec-Fetch-Mode': 'cors' })).toBe(200);
    expect(await read({ 'Sec-Fetch-Site': 'cross-site', 'Sec-Fetch-Mode': 'navigate' })).toBe(200);
    for (const site of ['cross-site', 'same-site']) expect(await read({ 'Sec-Fetch-Site': site, 'Sec-Fetch-Mode': 'no-cors' })).toBe(403);
    expect(await read({ Host: 'rebound.example' })).toBe(403);
  });

  test('shows each user the own tasks [DASH-15]', async () => {
    const [own, other] = [await api.task(api.keys.ann), await api.task(api.keys.bob)];
    const token = await annsSession();
    expect((await withSession(token, 'GET', `/api/v1/tasks/${own.id}`)).status).toBe(200);
    expect((await withSession(token, 'GET', `/api/v1/tasks/${other.id}`)).status).toBe(404);
    const { items } = (await (await withSession(token, 'GET', '/api/v1/tasks?limit=500')).json()) as { items: { id: string; user_id: string }[] };
    expect(new Set(items.map(({ user_id }) => user_id))).toEqual(new Set(['ann']));
  });

  test('of two people, a cut and a made-up one are nobody’s [bad-7]', async () => {
    const [one, bobs] = [await annsSession(), await sessionOf({ key: api.keys.bob })];
    for (const cookie of [
      `orchestra_session=${one}; orchestra_session=${bobs}`,
      `orchestra_session=${one.slice(0, -1)}`,
      'orchestra_session=',
      `orchestra_session=${api.keys.admin}`,
    ])
      expect((await api.request(null, 'GET', current, undefined, { Cookie: cookie })).status).toBe(401);
    expect((await api.request(null, 'GET', current, undefined, { Cookie: `orchestra_session=${one}; orchestra_session=${one}` })).status).toBe(200);
  });

  test('is found beside a cookie of the same name that somebody else has set, and both are over after a sign-out [DASH-15]', async () => {
    const [one, two, planted] = [await annsSession(), await annsSession(), 'ors_'.padEnd(47, 'A')];
    const cookies = (...tokens: string[]) => ({ Cookie: tokens.map((token) => `orchestra_session=${token}`).join('; '), ...fromHere });
    const who = async (...tokens: string[]) => (await api.request(null, 'GET', current, undefined, cookies(...tokens))).status;
    expect(await who(planted, one)).toBe(200);
    expect(await who('', one, planted)).toBe(200);
    expect(await who(one, two)).toBe(200);
    expect((await api.request(null, 'DELETE', current, undefined, cookies(planted, one, two))).status).toBe(204);
    expect([await who(one), await who(two)]).toEqual([401, 401]);
    const bobs = await sessionOf({ key: api.keys.bob });
    const anew = await signIn({ user: 'ann', password }, cookies(await annsSession(), bobs));
    expect([anew.status, await who(bobs, tokenOf(anew))]).toEqual([201, 200]);
  });

  test('ends when its owner signs out, everywhere, and no other does [DASH-15]', async () => {
    const [mine, other] = [await annsSession(), await annsSession()];
    const answer = await withSession(mine, 'DELETE', current);
    expect(answer.status).toBe(204);
    expect(answer.headers.get('set-cookie')).toMatch(/^orchestra_session=; Max-Age=0; Path=\/; HttpOnly; SameSite=Lax$/);
    expect((await withSession(mine, 'GET', current)).status).toBe(401);
    expect(await elsewhere().verifySession(mine)).toBeNull();
    expect((await withSession(other, 'GET', current)).status).toBe(200);
    expect((await api.request(api.keys.ann, 'DELETE', current)).status).toBe(204);
  });

  test('ends with the key that it was opened with [SEC-02]', async () => {
    const { id, key } = await api.services.createKey({ name: 'x', userId: 'ann', role: 'user', expiresAt: null });
    const token = await sessionOf({ key });
    expect(await elsewhere().verifySession(token)).toMatchObject({ userId: 'ann' });
    await api.services.revokeKey(id);
    expect(await elsewhere().verifySession(token)).toBeNull();
  });

  test('lasts a day, goes on while it is used, and ends after a week [DASH-15]', async () => {
    const token = await annsSession();
    const { sql } = api.database;
    const hours = async () => {
      const [row] = await sql<{ hours: number }[]>`select round(extract(epoch from max(expires_at) - now()) / 3600)::integer as hours from sessions`;
      return row?.hours;
    };
    await sql`delete from sessions where expires_at < (select max(expires_at) from sessions)`;
    expect(await hours()).toBe(24);
    await sql`update sessions set created_at = now() - interval '20 hours', expires_at = now() + interval '4 hours'`;
    expect(await elsewhere().verifySession(token)).not.toBeNull();
    await expect.poll(hours).toBe(24);
    await sql`update sessions set created_at = now() - interval '166 hours', expires_at = now() + interval '30 minutes'`;
    expect(await elsewhere().verifySession(token)).not.toBeNull();
    await expect.poll(hours).toBe(2);
    await sql`update sessions set expires_at = now()`;
    expect(await elsewhere().verifySession(token)).toBeNull();
  });

  test('has the role that its user has at the moment, and ends with another password, disabling and removal [SEC-05]', async () => {
    const change = async (body: object) => expect((await api.request(api.keys.admin, 'PATCH', '/api/v1/users/ann', body)).status).toBe(200);
    const token = await annsSession();
    expect((await withSession(token, 'GET', '/api/v1/users')).status).toBe(403);
    await change({ role: 'admin' });
    expect((await withSession(token, 'GET', '/api/v1/users')).status).toBe(200);
    await change({ role: 'viewer' });
    expect((await withSession(token, 'POST', '/api/v1/locks/x', { task_id: 'x' })).status).toBe(403);
    await change({ disabled: true });
    expect((await withSession(token, 'GET', current)).status).toBe(401);
    expect((await signIn({ user: 'ann', password })).status).toBe(401);
    await change({ disabled: false });
    expect((await withSession(token, 'GET', current)).status).toBe(401);
    const second = await annsSession();
    await change({ password: 'another horse battery' });
    expect((await withSession(second, 'GET', current)).status).toBe(401);
    const third = await sessionOf({ user: 'ann', password: 'another horse battery' });
    expect((await api.request(api.keys.admin, 'DELETE', '/api/v1/users/ann')).status).toBe(204);
    expect((await withSession(third, 'GET', current)).status).toBe(401);
    expect(await elsewhere().verifySession(third)).toBeNull();
  });
});

describe('a password with each request', () => {
  const ask = (user: string, secret: string) => api.request(null, 'GET', current, undefined, basic(user, secret));

  test('is taken, and refused when it is wrong, without a browser asking for one [DASH-15]', async () => {
    expect(await (await ask('ann', password)).json()).toMatchObject({ user_id: 'ann', by: 'password', expires_at: null });
    for (const [user, secret] of [
      ['ann', `${password}x`],
      ['nobody', password],
      ['', password],
      ['ann\0', password],
      ['ann', 'x'.repeat(300)],
    ] as const) {
      const answer = await ask(user, secret);
      expect(answer.status).toBe(401);
      expect(answer.headers.get('www-authenticate')).not.toMatch(/basic/i);
    }
  });

  test('may hold a colon', async () => {
    await api.request(api.keys.admin, 'PATCH', '/api/v1/users/ann', { password: 'a:b:c:d:e' });
    expect((await ask('ann', 'a:b:c:d:e')).status).toBe(200);
  });

  test('that was changed is refused at once, and the new one taken', async () => {
    expect((await ask('ann', password)).status).toBe(200);
    expect((await ask('ann', 'another horse battery')).status).toBe(401);
    await api.request(api.keys.admin, 'PATCH', '/api/v1/users/ann', { password: 'another horse battery' });
    expect((await ask('ann', password)).status).toBe(401);
    expect((await ask('ann', 'another horse battery')).status).toBe(200);
  });

  test('gives way to a key and to a session [DASH-15]', async () => {
    const wrong = basic('proxy', 'of a proxy in front');
    expect(await (await api.request(api.keys.bob, 'GET', current, undefined, wrong)).json()).toMatchObject({ user_id: 'bob', by: 'key' });
    expect(await (await withSession(await annsSession(), 'GET', current, undefined, wrong)).json()).toMatchObject({ user_id: 'ann', by: 'session' });
  });
});

describe('guessing', () => {
  const guess = (user: string, number: number) => signIn({ user, password: `guess number ${number}` });

  test('ends after 10 wrong passwords for a name, for the right one too; keys and other users go on [DASH-15]', async () => {
    await addUser('eve');
    for (let number = 0; number < 10; number++) expect((await guess('ann', number)).status).toBe(401);
    const answer = await signIn({ user: 'ann', password });
    expect(answer.status).toBe(429);
    expect(Number(answer.headers.get('retry-after'))).toBeGreaterThan(200);
    expect(Number(answer.headers.get('retry-after'))).toBeLessThanOrEqual(300);
    expect((await api.request(null, 'GET', current, undefined, basic('ann', password))).status).toBe(429);
    expect((await signIn({ key: api.keys.ann })).status).toBe(201);
    expect((await signIn({ user: 'eve', password })).status).toBe(201);
    await api.database.sql`update sign_in_failures set at = at - interval '6 minutes'`;
    expect((await signIn({ user: 'ann', password })).status).toBe(201);
  });

  test('is no faster for many at once, nor over several names [DASH-15]', async () => {
    const atOnce = await Promise.all(Array.from({ length: 20 }, (_, number) => guess('ann', number)));
    expect(atOnce.filter(({ status }) => status === 401)).toHaveLength(10);
    for (let number = 0; number < 20; number++) expect((await guess(`name-${number}`, number)).status).toBe(401);
    expect((await guess('another-name', 1)).status).toBe(429);
    expect((await signIn({ ticket: 'ort_' })).status).toBe(401);
  });

  test('is forgotten with the right password', async () => {
    for (let round = 0; round < 2; round++) {
      for (let number = 0; number < 9; number++) expect((await guess('ann', number)).status).toBe(401);
      expect((await signIn({ user: 'ann', password })).status).toBe(201);
    }
  });
});

describe('users', () => {
  const asAdmin = (method: string, path: string, body?: object) => api.request(api.keys.admin, method, `/api/v1/users${path}`, body);

  test('are added, listed, changed and removed by administrators, and each leaves an entry [SEC-05, SEC-11]', async () => {
    const { sql } = api.database;
    await sql`delete from audit_log`;
    await addUser('bea', 'viewer');
    expect(await outcome(await asAdmin('POST', '', { id: 'bea', role: 'user', password }))).toMatchObject({ status: 409, code: 'user_exists' });
    expect(await (await asAdmin('PATCH', '/bea', { role: 'user' })).json()).toMatchObject({ id: 'bea', role: 'user', disabled: false });
    expect(await (await asAdmin('GET', '')).json()).toMatchObject({ items: [{ id: 'ann' }, { id: 'bea' }] });
    await sessionOf({ user: 'bea', password });
    expect((await asAdmin('DELETE', '/bea')).status).toBe(204);
    expect(await outcome(await asAdmin('DELETE', '/bea'))).toMatchObject({ status: 404, code: 'unknown_user' });
    const entries = await sql`select action, user_id, details from audit_log order by id`;
    expect(entries).toMatchObject([
      { action: 'user_created', user_id: 'root', details: { user: 'bea', role: 'viewer' } },
      { action: 'user_changed', user_id: 'root', details: { user: 'bea', role: 'user' } },
      { action: 'user_authenticated', user_id: 'bea', details: { by: 'password' } },
      { action: 'user_removed', user_id: 'root', details: { user: 'bea' } },
    ]);
  });

  test('have names and passwords within bounds [SEC-10]', async () => {
    for (const id of ['', 'Ann', '.ann', 'a b', 'a'.repeat(51), 'a/b', 'ä'])
      expect((await asAdmin('POST', '', { id, role: 'user', password })).status).toBe(422);
    for (const secret of ['', 'short', 'x'.repeat(201)]) {
      const answer = await asAdmin('POST', '', { id: 'bea', role: 'user', password: secret });
      expect(answer.status).toBe(422);
      if (secret !== '') expect(await answer.text()).not.toContain(secret);
    }
    expect((await asAdmin('PATCH', '/ann', {})).status).toBe(422);
    expect((await asAdmin('PATCH', '/ann', { role: 'root' })).status).toBe(422);
    for (const id of ['%00', 'a%20b', 'nobody']) expect((await asAdmin('PATCH', `/${id}`, { role: 'user' })).status).toBe(404);
  });

  test('a user called as the first administrator is the same owner [SEC-05]', async () => {
    await addUser('admin', 'viewer');
    const token = await sessionOf({ user: 'admin', password });
    expect(await (await withSession(token, 'GET', current)).json()).toMatchObject({ user_id: 'admin', role: 'viewer' });
  });

  test('change the own password with the present one, which ends their other sessions [DASH-15]', async () => {
    const [mine, other] = [await annsSession(), await annsSession()];
    const change = (present: string) => withSession(mine, 'PATCH', '/api/v1/users/me/password', { present, new: 'staple correct horse' });
    expect(await outcome(await change('a wrong horse'))).toMatchObject({ status: 403, code: 'forbidden' });
    expect((await change(password)).status).toBe(204);
    expect((await withSession(mine, 'GET', current)).status).toBe(200);
    expect((await withSession(other, 'GET', current)).status).toBe(401);
    expect((await signIn({ user: 'ann', password: 'staple correct horse' })).status).toBe(201);
    expect(await outcome(await api.request(api.keys.bob, 'PATCH', '/api/v1/users/me/password', { present: password, new: password }))).toMatchObject({
      status: 404,
      code: 'unknown_user',
    });
  });
});

test('neither the database, the log nor an answer shows a password, a token or a ticket [SEC-13]', async () => {
  const lines: string[] = [];
  const log = createLogger({ level: 'DEBUG', format: 'json', handlers: [], file: { path: '', maxSizeBytes: 1, backupCount: 0 } }, 'api', [
    { write: (line) => void lines.push(line) },
  ]);
  const app = createApp({ services: createServices({ ...api.deps, log }), log, config: apiConfig });
  const planted = 'planted-secret-word';
  const post = (url: string, body: object, headers: Headers = {}) =>
    app.request(url, { method: 'POST', headers: { 'Content-Type': 'application/json', ...headers }, body: JSON.stringify(body) });
  const key = { 'X-API-Key': api.keys.admin };
  const answers = [
    await post('/api/v1/users', { id: 'bea', role: 'user', password: planted }, key),
    await post('/api/v1/sessions', { user: planted, password: planted }),
    await post('/api/v1/sessions', { user: 'bea', password: `${planted}-wrong` }),
    await post('/api/v1/sessions', { user: 'bea', password: planted }),
    await app.request(current, { headers: basic('bea', `${planted}-wrong`) }),
    await post(`/api/v1/sessions?ticket=${planted}`, { ticket: planted }),
  ];
  const token = tokenOf(answers[3] as Response);
  const { ticket } = (await (await post('/api/v1/sign-in-tickets', {}, key)).json()) as { ticket: string };
  await post('/api/v1/sessions', { ticket: `${ticket}x` });
  log.warn({ ticket, err: new Error(`GET /sign-in#ticket=${ticket} with orchestra_session=${token}`) }, 'a line that holds secrets');
  const dump: string[] = [];
  for (const { name } of await api.database.sql<{ name: string }[]>`select tablename as name from pg_tables where schemaname = 'public'`)
    for (const { row } of await api.database.sql<{ row: string }[]>`select t::text as row from ${api.database.sql(name)} t`) dump.push(row);
  expect(dump.join('\n')).toContain('bea');
  expect(lines.join('')).toContain('a line that holds secrets');
  const told = [...dump, ...lines, ...(await Promise.all(answers.map((answer) => answer.text())))].join('\n');
  for (const secret of [planted, token, ticket]) {
    expect(told).not.toContain(secret);
    expect(told).not.toContain(Buffer.from(secret).toString('hex'));
  }
});

test('what goes on for long ends when its caller has another role than at its beginning [SEC-05]', async () => {
  await addUser('boss', 'admin');
  const token = await sessionOf({ user: 'boss', password });
  const app = createApp({ services: api.services, log: silent, config: { ...apiConfig, allowedHosts: ['orchestra.example'] } });
  let stillValid = async () => false;
  app.get('/lasting', authenticate('read'), (c) => {
    stillValid = c.var.stillValid ?? stillValid;
    return c.body(null, 204);
  });
  expect((await app.request('/lasting', { headers: { Cookie: `orchestra_session=${token}` } })).status).toBe(204);
  expect(await stillValid()).toBe(true);
  await api.request(api.keys.admin, 'PATCH', '/api/v1/users/boss', { role: 'viewer' });
  expect((await withSession(token, 'GET', current)).status).toBe(200);
  expect(await stillValid()).toBe(false);
});

test('a session that opened a page ends what it follows when it is void [SEC-02]', async () => {
  const token = await annsSession();
  const caller = await api.services.verifySession(token);
  expect(caller?.keyId).toMatch(/^session:[0-9a-f]{12}$/);
  expect(caller?.keyId).not.toContain(token.slice(4, 10));
  await api.request(api.keys.admin, 'PATCH', '/api/v1/users/ann', { disabled: true });
  expect(await api.services.verifySession(token)).toBeNull();
});
