import type { Client } from '@temporalio/client';
import { defaultPayloadConverter } from '@temporalio/common';

const timeoutMs = 5_000;

/**
 * Signals a workflow so that repeats with one `requestId` are one event in its history. The SDK's own `signal()` draws a new id for each call.
 * @param requestId names this signal for ever; for a grant, the grant's id
 * @throws the gRPC error; `NOT_FOUND` when the workflow does not run, `DEADLINE_EXCEEDED` after 5 s
 */
export async function signalOnce(client: Client, workflowId: string, signalName: string, args: readonly unknown[], requestId: string): Promise<void> {
  await client.withDeadline(Date.now() + timeoutMs, () =>
    client.workflowService.signalWorkflowExecution({
      namespace: client.options.namespace,
      workflowExecution: { workflowId },
      signalName,
      input: { payloads: args.map((argument) => defaultPayloadConverter.toPayload(argument)) },
      identity: client.options.identity,
      requestId,
    }),
  );
}
