import { pino } from 'pino';
import { expect, test } from 'vitest';
import { answerMaxMs, askAgent, restMs } from '../../../engine/ask-agent.js';
import type { PriorityAgent } from '../../../scheduling/learned-order.js';
import { priorityAffinity } from '../../../scheduling/priority-affinity.js';
import type { Snapshot } from '../../../scheduling/policy.js';
import { emptySnapshot, waitingHead } from '../../support/snapshots.js';

const snapshot: Snapshot = {
  ...emptySnapshot,
  heads: [waitingHead(1), waitingHead(2)],
  slots: [{ pool: 'general', host: 'general', hostEpoch: 0, key: null, capacity: 1, taken: [] }],
};

/** An agent that says what it is told to, and how often it was asked. */
function asked(propose: PriorityAgent['propose'], trained: () => boolean = () => true) {
  let [times, nowMs] = [0, 0];
  const agent: PriorityAgent = {
    version: 'v1',
    trained,
    propose: (...given) => {
      times += 1;
      return propose(...given);
    },
  };
  const policy = askAgent({ agent, policy: priorityAffinity(), log: pino({ level: 'silent' }), nowMs: () => nowMs });
  return {
    decide: () => {
      const { grants, by } = policy.decide(snapshot, () => 'level');
      return { first: grants[0]?.row, by };
    },
    times: () => times,
    pass: (ms: number) => {
      nowMs += ms;
    },
  };
}
const alone = (fault: string) => ({
  first: '1',
  by: { algorithm: 'priority_affinity', version: null, instead: `the learned agent v1 was not used: ${fault}` },
});

test('a trained agent orders the steps of a level, and the decision names it [SCHED-18]', () => {
  expect(asked(() => new Map([['2', 50]])).decide()).toMatchObject({ first: '1', by: { algorithm: 'reinforcement_learning' } });
  const by = { algorithm: 'reinforcement_learning', version: 'v1', instead: null };
  expect(asked(() => new Map([['1', 45]])).decide()).toEqual({ first: '2', by });
});

test('an untrained agent is not asked for an order, and orders as soon as it is trained [SCHED-18]', () => {
  let trained = false;
  const agent = asked(
    () => new Map([['1', 45]]),
    () => trained,
  );
  expect(agent.decide()).toEqual(alone('it is not trained yet'));
  expect(agent.times()).toBe(0);
  trained = true;
  expect(agent.decide()).toMatchObject({ first: '2' });
});

const broken: [string, PriorityAgent['propose'], string][] = [
  ['leaves a level', () => new Map([['2', 95]]), 'it proposed 95 for step 2, whose caller asked for level 5'],
  ['answers nonsense', () => new Map([['later', 50]]), 'it proposed a value for later, which does not wait'],
  ['answers nothing', () => undefined as never, 'it proposed no values'],
  [
    'throws',
    () => {
      throw new Error('no weights');
    },
    'it threw: no weights',
  ],
];

test.each(broken)('while an agent %s priority_affinity decides, and it is left alone for a minute [SCHED-18]', (_what, propose, fault) => {
  let fails = true;
  const agent = asked((...given) => (fails ? propose(...given) : new Map([['1', 45]])));
  const first = agent.decide();
  expect(first).toMatchObject({ ...alone(fault), by: { instead: expect.stringContaining(fault) } });
  fails = false;
  agent.pass(restMs - 1);
  expect(agent.decide()).toEqual(first);
  expect(agent.times()).toBe(1);
  agent.pass(1);
  expect(agent.decide()).toMatchObject({ first: '2', by: { algorithm: 'reinforcement_learning' } });
});

test('what an agent says too late is not used, nor is it asked again at once [SCHED-18]', () => {
  const agent = asked(() => {
    agent.pass(answerMaxMs + 1);
    return new Map([['1', 45]]);
  });
  expect(agent.decide()).toEqual(alone(`it took ${answerMaxMs + 1} ms`));
  expect(agent.decide()).toMatchObject({ first: '1' });
  expect(agent.times()).toBe(1);
});

test('an agent that writes into what it is shown changes nothing [SCHED-18]', () => {
  const agent = asked((seen) => {
    (seen.heads as unknown[]).splice(0, 1);
    (seen.heads[0] as { level: number }).level = 10;
    return new Map();
  });
  expect(agent.decide()).toMatchObject({ first: '1', by: { algorithm: 'reinforcement_learning' } });
});
