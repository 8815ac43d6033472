import { afterAll, beforeAll, expect, test } from 'vitest';
import { seeded } from '../../chaos/random.js';
import { type Moment, momentsOf } from '../../support/effects/effects.js';
import { type Blow, startStruckInstallation, type StruckInstallation } from '../../support/effects/struck-installation.js';

// Every effect of a process is a moment at which it may be killed: before it, or after it and before its answer. A run that nobody is struck in
// tells which there are. `KILLS=all` tries each of them, which takes an hour, or with `KILLS_PART=2/8` the second eighth; without it a few that the seed
// chooses (`KILLS_SEED`).
const all = process.env['KILLS'] === 'all';
const [part = 1, parts = 1] = (process.env['KILLS_PART'] ?? '1/1').split('/').map(Number);
const seed = Number(process.env['KILLS_SEED'] ?? 1);
const limitMs = all ? 4 * 3_600_000 : 600_000;

interface Struck {
  readonly blow: Blow;
  /** which effects it is tried at */
  readonly at: (effect: string) => boolean;
  readonly whens: readonly Moment['when'][];
  /** moments that are tried when not all are */
  readonly some: number;
}

const anywhere = () => true;
const inDatabase = (effect: string) => /[ _]/.test(effect);
const inOllama = (effect: string) => ['load', 'unload', 'infer'].includes(effect);

let engines: StruckInstallation;
let hosts: StruckInstallation;
let databases: StruckInstallation;

beforeAll(async () => {
  [engines, hosts, databases] = await Promise.all([
    startStruckInstallation('struck-engine'),
    startStruckInstallation('struck-host'),
    startStruckInstallation('struck-postgres', { postgres: true }),
  ]);
}, 240_000);
afterAll(() => Promise.all([engines?.stop(), hosts?.stop(), databases?.stop()]), 60_000);

/** @returns what was broken, each with the blow that broke it */
async function strikeAll(installation: StruckInstallation, seen: readonly string[], each: Struck): Promise<string[]> {
  const moments = momentsOf(seen, each.whens).filter(({ effect }) => each.at(effect));
  const named = moments.filter(({ when, effect, nth }) => process.env['KILLS'] === `${when} ${effect} ${nth}`);
  const random = seeded(seed, each.blow);
  const chosen = all
    ? moments.filter((_, index) => index % parts === part - 1)
    : named.length > 0
      ? named
      : Array.from({ length: each.some }, () => random.pick(moments as [Moment, ...Moment[]]));
  const breaches: string[] = [];
  for (const [index, moment] of chosen.entries()) {
    const startedMs = Date.now();
    const said = `${each.blow} ${moment.when} ${moment.effect} ${moment.nth}`;
    const outcome = await installation.run(each.blow, moment);
    for (const breach of outcome.breaches) breaches.push(`${said}: ${breach}`);
    if (process.env['KILLS'] !== undefined)
      process.stderr.write(
        `${index + 1}/${chosen.length} ${said}: ${outcome.struck ? '' : 'did not come, '}${outcome.breaches.length} breaches, ${Date.now() - startedMs} ms\n`,
      );
  }
  return breaches;
}

test.concurrent(
  'an engine that is killed or loses PostgreSQL between any two of its effects loses no grant, leaks no slot and keeps the order',
  async () => {
    const { seen, breaches } = await engines.run('engine killed', null);
    expect(breaches).toEqual([]);
    expect(seen).toEqual(
      expect.arrayContaining([
        'line_enter',
        'decide_write',
        'SignalWorkflowExecution',
        'SignalWithStartWorkflowExecution',
        'line_claim',
        'line_finish',
        'RespondActivityTaskCompleted',
      ]),
    );
    expect(await strikeAll(engines, seen, { blow: 'engine killed', at: anywhere, whens: ['before', 'after'], some: 1 })).toEqual([]);
    expect(await strikeAll(engines, seen, { blow: 'engine cut from PostgreSQL', at: inDatabase, whens: ['before', 'after'], some: 1 })).toEqual([]);
  },
  limitMs,
);

test.concurrent(
  'a host or an Ollama that is killed, or a host that loses PostgreSQL, between any two effects loses no grant, loads nothing twice and keeps the order [fault-31]',
  async () => {
    const { seen, breaches } = await hosts.run('host killed', null);
    expect(breaches).toEqual([]);
    expect(seen).toEqual(
      expect.arrayContaining([
        'insert into residency',
        'load',
        'update residency',
        'unload',
        'delete from residency',
        'line_claim',
        'infer',
        'line_finish',
        'RespondActivityTaskCompleted',
      ]),
    );
    expect(await strikeAll(hosts, seen, { blow: 'host killed', at: anywhere, whens: ['before', 'after'], some: 1 })).toEqual([]);
    expect(await strikeAll(hosts, seen, { blow: 'ollama killed', at: inOllama, whens: ['before', 'after'], some: 1 })).toEqual([]);
    expect(await strikeAll(hosts, seen, { blow: 'host cut from PostgreSQL', at: inDatabase, whens: ['before', 'after'], some: 1 })).toEqual([]);
  },
  limitMs,
);

test.concurrent(
  'a PostgreSQL that is killed between any two effects of an engine or a host loses nothing that it has committed, and all goes on in order [fault-18]',
  async () => {
    for (const blow of ['PostgreSQL killed under the engine', 'PostgreSQL killed under the host'] as const) {
      const { seen, breaches } = await databases.run(blow, null);
      expect(breaches).toEqual([]);
      expect(await strikeAll(databases, seen, { blow, at: inDatabase, whens: ['before', 'after'], some: 1 })).toEqual([]);
    }
  },
  limitMs,
);
