import { sleep } from '@temporalio/workflow';

/** A `runTask` that no longer does first what the recorded one did first; the replay check has to refuse it. */
export async function runTask(): Promise<void> {
  await sleep('1 second');
}
