import { proxyActivities, proxyLocalActivities } from '@temporalio/workflow';

const line = proxyLocalActivities<{ enter(name: string): Promise<string> }>({ startToCloseTimeout: '5 s' });
const steps = proxyActivities<{ shout(text: string): Promise<string> }>({ taskQueue: 'general', startToCloseTimeout: '5 s' });

/** The least that uses both kinds of worker. */
export async function standIn(name: string): Promise<string> {
  return steps.shout(await line.enter(name));
}
