import { proxyActivities } from '@temporalio/workflow';

const { work } = proxyActivities<{ work(text: string): Promise<string> }>({
  startToCloseTimeout: '1 minute',
  taskQueue: 'raw-steps',
  allowEagerDispatch: false,
});

/** The floor that every figure is compared with: one workflow, one activity on its own queue, nothing else. */
export async function rawOneStep(text: string): Promise<string> {
  return work(text);
}
