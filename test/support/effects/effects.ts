/** A moment of a process: beside the effect that it has for the nth time. `before`: the effect does not happen; `after`: it does, and its answer is lost. */
export interface Moment {
  readonly effect: string;
  /** from 1 */
  readonly nth: number;
  readonly when: 'before' | 'after';
}

/** What a proxy is to do with an effect. `lost`: nothing, its process was struck; `last`: carry it out, keep the answer, and strike. */
export type Verdict = 'pass' | 'lost' | 'last';

/** Counts what one process changes outside of itself, as its proxies see it, and strikes at a chosen moment. */
export interface Effects {
  /** names of the effects since {@link Effects.watch} was called, in order */
  readonly seen: readonly string[];
  /** whether the chosen moment has come */
  readonly struck: boolean;
  /** Begins to count anew. At the moment `act` is called; it runs at once, so that nothing happens after it that the process did later. */
  watch(moment: Moment | null, act: () => void): void;
  /** A proxy is about to pass an effect on. */
  begin(effect: string): Verdict;
  /** The effect whose verdict was `last` has happened. */
  strike(): void;
}

export function createEffects(): Effects {
  let seen: string[] = [];
  let moment: Moment | null = null;
  let struck = false;
  let act = () => {};
  const effects: Effects = {
    get seen() {
      return seen;
    },
    get struck() {
      return struck;
    },
    watch(chosen, then) {
      seen = [];
      struck = false;
      moment = chosen;
      act = then;
    },
    begin(effect) {
      seen.push(effect);
      if (moment === null || struck || moment.effect !== effect || seen.filter((each) => each === effect).length !== moment.nth) return 'pass';
      if (moment.when === 'after') return 'last';
      effects.strike();
      return 'lost';
    },
    strike() {
      if (struck) return;
      struck = true;
      act();
    },
  };
  return effects;
}

/** What the proxies have in common. */
export interface EffectsProxy {
  readonly port: number;
  /** Resets every connection, with what it had under way. */
  cut(): void;
  close(): Promise<void>;
}

/** Every moment beside these effects, in order. */
export function momentsOf(seen: readonly string[], whens: readonly Moment['when'][]): Moment[] {
  const counts = new Map<string, number>();
  return seen.flatMap((effect) => {
    const nth = (counts.get(effect) ?? 0) + 1;
    counts.set(effect, nth);
    return whens.map((when) => ({ effect, nth, when }));
  });
}
