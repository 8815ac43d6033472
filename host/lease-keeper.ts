import { setTimeout as delay } from 'node:timers/promises';
import type { Logger } from 'pino';
import { type HostHolder, HostTaken, leaseMs } from '../db/leases.js';

/** The right of one process to act as a host. A new one has a higher epoch; work of an old epoch is void. */
export interface HostLease {
  readonly epoch: number;
  /** aborts when this lease lapsed or was given back */
  readonly lost: AbortSignal;
}

/** The lease as PostgreSQL keeps it. */
export interface LeaseRows {
  /** Takes the lease when it is free or past, with a new epoch. Null: somebody holds it, or another host that has the same model server. */
  acquire(): Promise<{ readonly epoch: number } | null>;
  /** Whose lease is in the way now; null when there is none. */
  holder(): Promise<HostHolder | null>;
  /** False: the lease is no longer ours. */
  renew(epoch: number): Promise<boolean>;
  /** Ends the lease at once, so that a successor need not wait. */
  release(epoch: number): Promise<void>;
}

export interface LeaseTimes {
  /** how long a lease lasts without renewal */
  readonly leaseMs: number;
  readonly renewEveryMs: number;
  /** between two looks at a lease that somebody holds */
  readonly watchEveryMs: number;
}

export const leaseTimes: LeaseTimes = { leaseMs, renewEveryMs: 3_000, watchEveryMs: 500 };

export interface LeaseKeeper {
  readonly lease: HostLease | null;
  stop(): Promise<void>;
}

export interface LeaseKeeperDeps {
  readonly host: string;
  readonly rows: LeaseRows;
  readonly times: LeaseTimes;
  /** called with each new lease, the first included; the lease is not renewed before it resolves, nor for longer than its own time */
  readonly onAcquired: (lease: HostLease) => Promise<void>;
  /** called when the lease has lapsed; awaited before a new one is asked for */
  readonly onLost: (lease: HostLease) => Promise<void>;
  /** called when another process took the host: this one has nothing left to do */
  readonly onTaken: (error: HostTaken) => void;
  readonly log: Logger;
}

/**
 * Takes the lease of a host and keeps it; after a lapse (this process slept, PostgreSQL was away) takes a new one.
 * A lease that a dead process left behind is waited for, one that somebody renews is not.
 * @throws HostTaken
 */
export async function keepLease(deps: LeaseKeeperDeps): Promise<LeaseKeeper> {
  const { host, rows, times, log } = deps;
  const stopping = new AbortController();
  const stopped = new Promise<'stopped'>((resolve) => stopping.signal.addEventListener('abort', () => resolve('stopped')));
  let current: { readonly lease: HostLease; readonly controller: AbortController; validUntilMs: number } | null = null;

  const first = await acquireWhenFree();
  await take(first);
  const ended = run();

  return {
    get lease() {
      return current?.lease ?? null;
    },
    async stop() {
      stopping.abort();
      await ended;
      const held = current;
      current = null;
      held?.controller.abort('shutdown');
      if (held)
        await rows.release(held.lease.epoch).catch((error: unknown) => log.warn({ err: error, host }, 'the lease could not be given back and will lapse'));
    },
  };

  async function run(): Promise<void> {
    while (!stopping.signal.aborted) {
      if (current) await hold(current);
      if (stopping.signal.aborted) return;
      try {
        await take(await acquireWhenFree());
      } catch (error) {
        if (error instanceof HostTaken) return deps.onTaken(error);
        log.warn({ err: error, host }, 'the lease could not be taken');
        await pause(times.watchEveryMs);
      }
    }
  }

  /** Renews until the lease is lost or the keeper stops. */
  async function hold(held: NonNullable<typeof current>): Promise<void> {
    // The end of the lease is watched by a timer of its own, since a renewal may hang.
    let lapse: NodeJS.Timeout | undefined;
    const lapsed = new Promise<'lapsed'>((resolve) => {
      const check = () => {
        const leftMs = held.validUntilMs - performance.now();
        if (leftMs <= 0) resolve('lapsed');
        else lapse = setTimeout(check, leftMs);
      };
      check();
    });
    const renewal = async (): Promise<'lapsed' | 'renewed' | 'failed'> => {
      const askedAtMs = performance.now();
      try {
        if (!(await rows.renew(held.lease.epoch))) return 'lapsed';
      } catch (error) {
        log.warn({ err: error, host }, 'the lease could not be renewed');
        return 'failed';
      }
      held.validUntilMs = askedAtMs + times.leaseMs;
      return 'renewed';
    };
    try {
      while (!stopping.signal.aborted) {
        await Promise.race([lapsed, pause(times.renewEveryMs)]);
        // A renewal that hangs keeps neither the end of the lease nor that of the process waiting.
        const end = await Promise.race([lapsed, stopped, renewal()]);
        if (end !== 'lapsed') continue;
        log.error({ host, epoch: held.lease.epoch }, 'the lease of this host lapsed: its work is given up');
        current = null;
        held.controller.abort('lease_lost');
        await deps.onLost(held.lease);
        return;
      }
    } finally {
      clearTimeout(lapse);
    }
  }

  async function take({ epoch, askedAtMs }: { epoch: number; askedAtMs: number }): Promise<void> {
    const controller = new AbortController();
    const lease = { epoch, lost: controller.signal };
    current = { lease, controller, validUntilMs: askedAtMs + times.leaseMs };
    log.info({ host, epoch }, 'this process is the host now');
    await deps.onAcquired(lease);
  }

  async function acquireWhenFree(): Promise<{ epoch: number; askedAtMs: number }> {
    const seen = new Map<string, string>();
    for (;;) {
      const askedAtMs = performance.now();
      const taken = await rows.acquire();
      if (taken) return { epoch: taken.epoch, askedAtMs };
      const holder = await rows.holder();
      if (holder !== null && (seen.get(holder.host) ?? holder.lease) !== holder.lease) throw takenBy(holder, host);
      if (holder !== null) seen.set(holder.host, holder.lease);
      await pause(times.watchEveryMs);
      if (stopping.signal.aborted) throw new Error('the host is being stopped');
    }
  }

  async function pause(ms: number): Promise<void> {
    await delay(ms, undefined, { signal: stopping.signal }).catch(() => undefined);
  }
}

/** Why a host is refused, and what the person who started it may do. */
export function takenBy(other: Pick<HostHolder, 'host' | 'address'>, host: string): HostTaken {
  return new HostTaken(
    other.host === host
      ? `another process serves as host "${host}" already; give this one another HOST_ID, or stop the other`
      : `the model server at ${other.address} is managed by host "${other.host}" already, and two hosts would undo each other's loads; ` +
          `give host "${host}" a server of its own with OLLAMA_HOST, or stop host "${other.host}"`,
  );
}
