import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { chooseChange, type Contender, type Resident, type Room } from '../../../scheduling/choose-change.js';
import { quantumMaxMs, quantumMinMs, quantumMs } from '../../../scheduling/quantum.js';

const gb = 1e9;
/** before what is loaded, unless a test says otherwise */
const wanted = (bytes: number | null = gb, level = 5, turn = 0): Contender => ({ key: 'wanted', level, turn, bytes });
const resident = (key: string, more: Partial<Resident> = {}): Resident => ({
  key,
  loadMs: 1_000,
  bytes: gb,
  servedMs: 0,
  busy: false,
  use: 0,
  level: null,
  turn: 1,
  soonMs: null,
  planGoesOn: false,
  ...more,
});
const room = (modelsMax: number, gigabytes: number | null = null, ever = gigabytes): Room => ({
  modelsMax,
  bytes: gigabytes === null ? null : gigabytes * gb,
  bytesEver: ever === null ? null : ever * gb,
});

describe('the quantum', () => {
  test.each([
    [5, 5, 19_000],
    [5, 3, 19_000],
    [5, 6, 9_000],
    [5, 7, 9_000],
    [5, 8, 4_000],
    [8, 9, 0],
    [9, 10, 4_000],
    [10, 10, 4_000],
    [9, 8, 19_000],
    [null, 1, 0],
  ])('of a model whose first step has level %j, when the other has level %j', (own, other, expected) => {
    expect(quantumMs(1_000, own, other)).toBe(expected);
  });

  test('is never shorter than two seconds nor longer than ten minutes', () => {
    expect(quantumMs(1, 5, 5)).toBe(quantumMinMs);
    expect(quantumMs(60_000, 5, 5)).toBe(quantumMaxMs);
  });
});

describe('a change', () => {
  test('unloads nothing where there is room beside what is loaded [MODEL-09]', () => {
    expect(chooseChange(wanted(), [resident('a', { level: 5 })], room(2, 2))).toEqual({ kind: 'load', victims: [], terms: [] });
  });

  test('never leaves another context of the same model beside it, which a server cannot hold at the same time', () => {
    const again: Contender = { ...wanted(), key: 'llama:latest~ctx8192' };
    const residents = [resident('other:latest~ctx4096', { loadMs: 1 }), resident('llama:latest~ctx4096', { loadMs: 9_000 })];
    expect(chooseChange(again, residents, room(3, 24))).toMatchObject({ kind: 'load', victims: ['llama:latest~ctx4096'] });
  });

  test('is for later while what the load of the other has bought lasts, and says how long [SCHED-02]', () => {
    const change = chooseChange(wanted(), [resident('a', { level: 5, servedMs: 4_000 })], room(1));
    expect(change).toMatchObject({ kind: 'later', victim: 'a', leftMs: 15_000, terms: [{ key: 'a', quantum_ms: 19_000, served_ms: 4_000 }] });
    expect(change.kind === 'later' && change.terms[0]?.affinity).toBeCloseTo(15 / 19);
    expect(chooseChange(wanted(), [resident('a', { level: 5, servedMs: 19_000 })], room(1))).toMatchObject({ kind: 'load', victims: ['a'] });
  });

  test('is for now when nobody waits for the other, and when urgent work meets work that is not', () => {
    expect(chooseChange(wanted(), [resident('a')], room(1))).toMatchObject({ kind: 'load', victims: ['a'] });
    expect(chooseChange(wanted(gb, 10), [resident('a', { level: 8 })], room(1))).toMatchObject({ kind: 'load', victims: ['a'] });
    expect(chooseChange(wanted(gb, 8), [resident('a', { level: 9, servedMs: 1e9, turn: -1 })], room(1))).toMatchObject({ kind: 'later', leftMs: Infinity });
  });

  test('waits while a step of the other goes before the wanted one, however much it has served, so that what is first in line is never unloaded [SCHED-04]', () => {
    const first = resident('a', { level: 5, servedMs: 1e9, turn: 0 });
    expect(chooseChange(wanted(gb, 5, 1), [first], room(1))).toMatchObject({
      kind: 'later',
      victim: 'a',
      leftMs: Infinity,
      terms: [{ quantum_ms: null, affinity: 1 }],
    });
    expect(chooseChange(wanted(gb, 5, 1), [first, resident('b', { level: 5, servedMs: 1e9, turn: 2 })], room(2))).toMatchObject({
      kind: 'load',
      victims: ['b'],
    });
  });

  test('waits for a plan that goes on with the model even when its service is used up, but not if it is urgent [TPL-25]', () => {
    const going = [resident('a', { level: 5, servedMs: 1e6, planGoesOn: true })];
    expect(chooseChange(wanted(), going, room(1))).toMatchObject({ kind: 'later', victim: 'a', leftMs: 0 });
    expect(chooseChange(wanted(gb, 9), going, room(1))).toMatchObject({ kind: 'load', victims: ['a'] });
  });

  test('takes what nobody needs first, then what is needed latest, then what is cheap to load again [MODEL-07]', () => {
    const victims = (residents: Resident[]) => {
      const change = chooseChange(wanted(), residents, room(residents.length));
      return change.kind === 'load' ? change.victims : [];
    };
    expect(victims([resident('used', { level: 5, servedMs: 1e6 }), resident('idle')])).toEqual(['idle']);
    expect(victims([resident('soon', { soonMs: 5_000 }), resident('idle'), resident('later', { soonMs: 60_000 })])).toEqual(['idle']);
    expect(victims([resident('soon', { soonMs: 5_000 }), resident('later', { soonMs: 60_000 })])).toEqual(['later']);
    expect(victims([resident('first', { level: 5, servedMs: 1e6, turn: 1 }), resident('last', { level: 5, servedMs: 1e6, turn: 2 })])).toEqual(['last']);
    expect(victims([resident('works', { busy: true }), resident('idle', { use: 0.9 })])).toEqual(['idle']);
    expect(victims([resident('popular', { use: 0.5 }), resident('rare', { use: 0.1 })])).toEqual(['rare']);
    expect(victims([resident('dear', { use: 0.1, loadMs: 9_000 }), resident('cheap', { use: 0.1 })])).toEqual(['cheap']);
    expect(victims([resident('fresh', { level: 5, turn: 2 }), resident('spent', { level: 5, servedMs: 1e6, turn: 1 })])).toEqual(['spent']);
  });

  test('unloads no more than it has to: a large one that goes spares the small ones', () => {
    const change = chooseChange(wanted(4 * gb), [resident('small'), resident('large', { bytes: 4 * gb, loadMs: 40_000 })], room(3, 5));
    expect(change).toMatchObject({ kind: 'load', victims: ['large'] });
  });

  test('is never for a model that is larger than the whole budget, and waits while others use the memory [MODEL-09]', () => {
    expect(chooseChange(wanted(9 * gb), [], room(3, 8))).toEqual({ kind: 'never' });
    expect(chooseChange(wanted(7 * gb), [], room(3, 5, 8))).toEqual({ kind: 'no_room' });
  });

  test('for a model of unknown size is to load it alone, and beside nothing else of unknown size where bytes count', () => {
    expect(chooseChange(wanted(null), [resident('a'), resident('b')], room(3, 8))).toMatchObject({ kind: 'load', victims: expect.arrayContaining(['a', 'b']) });
    expect(chooseChange(wanted(null), [resident('a')], room(2))).toEqual({ kind: 'load', victims: [], terms: [] });
  });

  test('whatever is loaded: what stays fits beside the new one, none is unloaded in vain, and none with service left', () => {
    const anyResident = fc.record({
      loadMs: fc.integer({ min: 1, max: 60_000 }),
      bytes: fc.integer({ min: 1, max: 8 * gb }),
      servedMs: fc.integer({ min: 0, max: 700_000 }),
      level: fc.option(fc.integer({ min: 1, max: 10 })),
      soonMs: fc.option(fc.integer({ min: 0, max: 100_000 })),
    });
    fc.assert(
      fc.property(
        fc.array(anyResident, { maxLength: 6 }),
        fc.integer({ min: 1, max: 8 }),
        fc.integer({ min: 1, max: 6 }),
        fc.integer({ min: 1, max: 10 }),
        fc.integer({ min: 0, max: 6 }),
        (rows, size, max, level, before) => {
          const residents = rows.map((row, turn) => resident(`m${turn}`, { ...row, turn }));
          const change = chooseChange(wanted(size * gb, level, before - 0.5), residents, room(max, 8));
          if (change.kind !== 'load') return;
          const bytesOf = (kept: readonly Resident[]) => kept.reduce((sum, each) => sum + (each.bytes ?? 0), size * gb);
          const kept = residents.filter(({ key }) => !change.victims.includes(key));
          expect(kept.length).toBeLessThan(max);
          expect(bytesOf(kept)).toBeLessThanOrEqual(8 * gb);
          for (const victim of residents.filter(({ key }) => change.victims.includes(key))) {
            expect(victim.servedMs).toBeGreaterThanOrEqual(quantumMs(victim.loadMs, victim.level, level));
            expect(victim.level === null || victim.turn >= before).toBe(true);
            const spared = [...kept, victim];
            expect(spared.length >= max || bytesOf(spared) > 8 * gb).toBe(true);
          }
        },
      ),
    );
  });
});
