import { randomUUID } from 'node:crypto';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { workflowQueue } from '../../../contract/queues.js';
import { connectClient, type TemporalClient } from '../../../temporal/client.js';
import { isNotFound } from '../../../temporal/grpc-status.js';
import { signalOnce } from '../../../temporal/signal-once.js';
import { type FaultProxy, startFaultProxy } from '../../support/fault-proxy.js';
import { takeNamespace, temporalAddress } from '../../support/servers.js';

let proxy: FaultProxy;
let client: TemporalClient;
const workflowId = `signalled-${randomUUID()}`;

beforeAll(async () => {
  const [host, port] = temporalAddress().split(':');
  proxy = await startFaultProxy({ host: host!, port: Number(port) });
  client = await connectClient({ address: `${proxy.host}:${proxy.port}`, namespace: takeNamespace() });
  await client.workflow.start('nobody-runs-it', { workflowId, taskQueue: workflowQueue });
});
afterAll(async () => {
  await client?.connection.close();
  await proxy?.close();
});

test('repeats with one request id are one signal of the history', async () => {
  for (let n = 0; n < 3; n += 1) await signalOnce(client, workflowId, 'told', ['a'], 'one');
  await signalOnce(client, workflowId, 'told', ['b'], 'two');
  const { events } = await client.workflow.getHandle(workflowId).fetchHistory();
  const told = events?.flatMap(({ workflowExecutionSignaledEventAttributes: signal }) => signal?.input?.payloads?.map(({ data }) => String(data)) ?? []);
  expect(told).toEqual(['"a"', '"b"']);
});

test('a workflow that is not there is told apart', async () => {
  await expect(signalOnce(client, 'nobody', 'told', [], 'one')).rejects.toSatisfy(isNotFound);
});

test('a server that never answers is given up after 5 s', async () => {
  proxy.fault({ kind: 'stall', direction: 'down', afterBytes: 0 });
  proxy.cutAll();
  await expect(signalOnce(client, workflowId, 'told', ['late'], 'three')).rejects.toMatchObject({ code: 4 });
}, 15_000);
