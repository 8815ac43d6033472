import type { DurationStats, StepKind } from '../scheduling/durations.js';
import type { StretchState } from '../scheduling/stretches.js';
import { answered, type Sql, type TransactionSql } from './connect.js';
import { storedJson } from './stored-json.js';

/** A step that has completed, and what was predicted of it when it was first seen; times of the promise in milliseconds after it was made. */
export interface FinishedStep extends StepKind {
  readonly ms: number;
  /** of its task */
  readonly level: number;
  readonly promise: {
    readonly startMs: number;
    readonly startSdMs: number;
    readonly finishMs: number;
    readonly finishSdMs: number;
    readonly startedMs: number;
    readonly finishedMs: number;
  } | null;
}

/** All that was learned: durations by their group, stretches by `stretchId`. */
export interface Learned {
  readonly durations: Map<string, DurationStats>;
  readonly stretches: Map<string, StretchState>;
}

/** Steps learned from in one transaction. */
const stepsMax = 2_000;

/** Reads what was learned. */
export async function readLearned(sql: Sql | TransactionSql): Promise<Learned> {
  const [durations, stretches] = await Promise.all([
    answered(sql<(DurationStats & { group: string })[]>`
      select group_id as "group", samples, log_mean as "logMean", log_variance as "logVariance", stretch_low as "stretchLow", stretch_high as "stretchHigh"
      from duration_stats order by updated_at desc limit 50000`),
    answered(sql<(StretchState & { kind: string; horizon: number })[]>`
      select kind, horizon, low, high, shift, judged::double precision as judged, kept::double precision as kept from forecast_stretch`),
  ]);
  return {
    durations: new Map(durations.map(({ group, ...stats }) => [group, stats])),
    stretches: new Map(stretches.map(({ kind, horizon, ...state }) => [`${kind} ${horizon}`, state])),
  };
}

/**
 * Learns from the steps that have completed since anybody last did, each once: what is read, up to where, and what is learned is one transaction. May be repeated.
 * @param learn takes the steps into what is known
 * @returns how many steps it were; `more`: there are more at once; `unseen`: one has ended that can be read only when every transaction begun before it is over
 */
export async function learnFinished(
  sql: Sql,
  learn: (steps: readonly FinishedStep[], known: Learned) => void,
): Promise<{ readonly more: boolean; readonly unseen: boolean; readonly count: number }> {
  return answered(
    sql.begin(async (tx) => {
      const [row] = await tx<{ found: { steps: FinishedStep[]; more: boolean } | null }[]>`select forecast_finished(${stepsMax}) as found`;
      const found = row?.found;
      if (found == null) return { more: false, unseen: true, count: 0 }; // another engine is at it
      const [beyond] = found.more
        ? []
        : await tx<{ unseen: boolean }[]>`
            select exists (select 1 from task_events where txid >= (select txid from forecast_cursor) and kind = 'step_finished') as unseen`;
      const rest = { more: found.more, unseen: beyond?.unseen ?? false };
      if (found.steps.length === 0) return { ...rest, count: 0 };
      const known = await readLearned(tx);
      const before = new Map<string, unknown>([...known.durations, ...known.stretches]);
      learn(found.steps, known);
      const durations = [...known.durations].filter(([group, stats]) => before.get(group) !== stats);
      const stretches = [...known.stretches].filter(([id, state]) => before.get(id) !== state);
      await tx`
        insert into duration_stats (group_id, samples, log_mean, log_variance, stretch_low, stretch_high)
        select d."group", d.samples, d."logMean", d."logVariance", d."stretchLow", d."stretchHigh"
        from jsonb_to_recordset(${storedJson(
          tx,
          durations.map(([group, stats]) => ({ group, ...stats })),
        )}) d ("group" text, samples double precision, "logMean" double precision, "logVariance" double precision, "stretchLow" double precision, "stretchHigh" double precision)
        on conflict (group_id) do update set samples = excluded.samples, log_mean = excluded.log_mean, log_variance = excluded.log_variance,
          stretch_low = excluded.stretch_low, stretch_high = excluded.stretch_high, updated_at = now()`;
      const judged = stretches.map(([id, state]) => ({ kind: id.split(' ')[0], horizon: Number(id.split(' ')[1]), ...state }));
      await tx`
        insert into forecast_stretch (kind, horizon, low, high, shift, judged, kept)
        select s.kind, s.horizon, s.low, s.high, s.shift, s.judged, s.kept
        from jsonb_to_recordset(${storedJson(tx, judged)}) s (kind text, horizon integer, low double precision, high double precision, shift double precision, judged bigint, kept bigint)
        on conflict (kind, horizon) do update set low = excluded.low, high = excluded.high, shift = excluded.shift, judged = excluded.judged, kept = excluded.kept`;
      return { ...rest, count: found.steps.length };
    }),
  );
}
