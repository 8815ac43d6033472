/** The server brings its page up to date about once a second. */
const reportedEveryMs = 2_500;

/** Calls of a Temporal server's frontend by operation, since it started. From its Prometheus page. */
export async function temporalCalls(metricsUrl: string): Promise<ReadonlyMap<string, number>> {
  await new Promise((resolve) => setTimeout(resolve, reportedEveryMs));
  const text = await (await fetch(metricsUrl)).text();
  const calls = new Map<string, number>();
  for (const line of text.split('\n')) {
    const match = /^service_requests(?:_total)?\{([^}]*)\} ([0-9.e+]+)/.exec(line);
    if (!match || !match[1]?.includes('service_name="frontend"')) continue;
    const operation = /operation="([^"]+)"/.exec(match[1])?.[1] ?? '';
    calls.set(operation, (calls.get(operation) ?? 0) + Number(match[2]));
  }
  return calls;
}

/** What came to it between two readings, without what a quiet worker asks by itself. */
export function callsBetween(before: ReadonlyMap<string, number>, after: ReadonlyMap<string, number>): ReadonlyMap<string, number> {
  const quiet =
    /^(Poll|GetSystemInfo|DescribeNamespace|GetClusterInfo|ListWorkflow|Describe|WorkerHeartbeat|RecordWorkerHeartbeat|ShutdownWorker|GetWorkflowExecutionHistory)/;
  return new Map(
    [...after]
      .map(([operation, count]): [string, number] => [operation, count - (before.get(operation) ?? 0)])
      .filter(([operation, count]) => count > 0 && !quiet.test(operation)),
  );
}
