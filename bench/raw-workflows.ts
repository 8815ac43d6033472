import { condition, defineSignal, proxyActivities, setHandler } from '@temporalio/workflow';

const { work } = proxyActivities<{ work(text: string): Promise<string> }>({
  startToCloseTimeout: '1 minute',
  taskQueue: 'raw-steps',
  allowEagerDispatch: false,
});

/** The floor that every figure is compared with: one workflow, one activity on its own queue, nothing else. */
export async function rawOneStep(text: string): Promise<string> {
  return work(text);
}

export const goSignal = defineSignal('go');

/** The floor of a handover: a workflow that waits for its signal, and then does as the one above. */
export async function rawOnSignal(text: string): Promise<string> {
  let gone = false;
  setHandler(goSignal, () => {
    gone = true;
  });
  await condition(() => gone);
  return work(text);
}
