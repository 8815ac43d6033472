import { afterAll, beforeAll, expect, test } from 'vitest';
import { createWorkspaces } from '../../../activities/workspace.js';
import { residencyWorkflowId } from '../../../contract/ids.js';
import { createReconciler } from '../../../engine/reconcile.js';
import { testLog } from '../../support/host-parts.js';
import { type HostRig, keyOf, startHostRig } from '../../support/host-rig.js';
import { eventually } from '../../support/servers.js';

let rig: HostRig;
beforeAll(async () => {
  rig = await startHostRig();
}, 60_000);
afterAll(() => rig?.stop());

const orders = () =>
  rig.sql<{ id: string; state: string; code: string | null }[]>`select id, state, error ->> 'code' as code from residency_orders order by created_at`;
const isRunning = async () => (await rig.client.workflow.getHandle(residencyWorkflowId(rig.host)).describe()).status.name === 'RUNNING';

test('an order whose workflow was terminated is given up, and the model is ordered anew; one that is carried out is left alone [fault-14]', async () => {
  const reconcile = createReconciler({
    sql: rig.sql,
    client: rig.client,
    workspaces: createWorkspaces('/nonexistent'),
    onOutbox: () => {},
    log: testLog,
  });
  // A host that lives and never answers: its order stays under way.
  await rig.sql`insert into hosts (id, lease_until, address, ready) values (${rig.host}, now() + interval '1 hour', 'http://127.0.0.1:1', true)`;
  const row = await rig.waitFor(keyOf('gone:latest'));
  const [first] = await eventually(async () => {
    const all = await orders();
    return all.length === 1 && (await isRunning()) && all;
  });
  await rig.sql`update residency_orders set created_at = created_at - interval '1 minute' where id = ${first!.id}`;
  await reconcile();
  expect(await orders()).toMatchObject([{ state: 'open' }]);

  await rig.client.workflow.getHandle(residencyWorkflowId(rig.host)).terminate('a test');
  await reconcile();
  const [given, anew] = await eventually(async () => {
    const all = await orders();
    return all.length === 2 && all;
  });
  expect(given).toMatchObject({ id: first!.id, state: 'failed', code: 'ended_outside' });
  expect(anew).toMatchObject({ state: 'open' });
  await eventually(isRunning);
  expect(await rig.sql`select state from line where id = ${row}`).toEqual([{ state: 'waiting' }]);
  await rig.client.workflow.getHandle(residencyWorkflowId(rig.host)).terminate('the test is over');
});
