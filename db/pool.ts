import postgres from 'postgres';

/** After this time what still runs in a pool that was replaced is ended: above every statement time-out but that of a large batch. */
const lastCallsSeconds = 30;

/**
 * A pool of postgres.js that gives way to a new one as soon as a connection of it is lost. The driver (3.4.9) keeps what a lost connection had
 * still to write, and never writes again from there, so that each later query on it waits for its deadline; and it rolls back on a connection
 * that is gone, which throws where nobody can catch it (https://github.com/porsager/postgres/issues/1154, 1208). Calls under way end where they began.
 */
export function replaceablePool(make: () => postgres.Sql): postgres.Sql {
  let current = make();
  let closed = false;

  /** Sees how a call ends without starting it: a query begins with its own `then`. */
  function watch<T>(call: Promise<T>, of: postgres.Sql): Promise<T> {
    void Promise.prototype.then.call(
      call,
      () => {
        of.options.fetch_types = false; // the pool knows the types of arrays now; asking for them on each new connection is a round trip
      },
      (error: unknown) => {
        if (!endedConnection(error) || closed || of !== current) return;
        current = make();
        of.end({ timeout: lastCallsSeconds }).catch(() => undefined);
      },
    );
    return call;
  }

  const own: Partial<Record<PropertyKey, unknown>> = {
    begin: (...args: [string, Transaction] | [Transaction]) => {
      const of = current;
      const [options, run] = args.length === 2 ? args : ['', args[0]];
      const over = { yes: false };
      const call = of.begin(options, guarded(run, over));
      call.catch(() => {
        over.yes = true;
      });
      return watch(call, of);
    },
    end: (...args: Parameters<postgres.Sql['end']>) => {
      closed = true;
      return current.end(...args);
    },
  };
  return new Proxy(current, {
    apply(_target, _self, args: unknown[]) {
      const of = current;
      const made: unknown = Reflect.apply(of, undefined, args);
      return made instanceof Promise ? watch(made, of) : made;
    },
    get: (_target, name) => own[name] ?? Reflect.get(current, name),
  });
}

type Transaction = (tx: postgres.TransactionSql) => unknown;

/** A transaction that neither asks nor ends anything once its connection is gone: the driver has rejected it by itself, and the connection may be somebody else's. */
function guarded(run: Transaction, over: { readonly yes: boolean }): Transaction {
  const never = () => new Promise<never>(() => {});
  return async (tx) => {
    const asked = new Proxy(tx, {
      apply: (target, _self, args: unknown[]): unknown => (over.yes ? never() : Reflect.apply(target, undefined, args)),
    });
    try {
      const result = await run(asked);
      return over.yes ? await never() : result;
    } catch (error) {
      // `query` is the driver's mark of what it told a query.
      if (over.yes || (endedConnection(error) && 'query' in error)) return never();
      throw error;
    }
  };
}

/** Codes of the driver for a connection that was there. One that was never made has kept nothing: a server that is away costs no pools. */
const lostCodes = new Set(['CONNECTION_CLOSED', 'CONNECTION_DESTROYED', 'CONNECT_TIMEOUT', 'ECONNRESET', 'EPIPE', 'ETIMEDOUT']);

/** Classes of what PostgreSQL refuses a new connection for, which says nothing of the others: no room for it, who it is, which database it wants. */
const refusals = /^(53|28|3D)/;

/** Whether the connection that an error came from is gone. What PostgreSQL says leaves it as it is, unless PostgreSQL ends it. */
function endedConnection(error: unknown): error is Error {
  if (error instanceof postgres.PostgresError) return (error.severity === 'FATAL' || error.severity === 'PANIC') && !refusals.test(error.code);
  return error instanceof Error && 'code' in error && lostCodes.has(String(error.code));
}
