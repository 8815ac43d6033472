import { proxyActivities } from '@temporalio/workflow';

/** Sends many activities to one queue at once, each of them once, and counts those that ended. */
export async function backlog(taskQueue: string, activities: number): Promise<number> {
  const { count } = proxyActivities<{ count(index: number): Promise<number> }>({
    taskQueue,
    heartbeatTimeout: '20 seconds', // catches an activity that was handed to a worker and lost
    scheduleToCloseTimeout: '5 minutes', // catches a queue that nobody serves
    retry: { maximumAttempts: 1 }, // a lost one shall fail the test, not be repeated
  });
  return (await Promise.all(Array.from({ length: activities }, (_, index) => count(index)))).length;
}
