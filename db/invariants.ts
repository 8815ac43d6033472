import type { Sql } from './connect.js';

/**
 * Checks what must hold after every transaction, whatever was killed in between; read in one snapshot.
 * "No start while a row of higher order was grantable" speaks of a moment, so the tests of the policy and of the decisions check it.
 * @returns a sentence for each breach; empty when all is well
 */
export async function checkInvariants(sql: Sql): Promise<string[]> {
  const rows = await sql<{ breach: string }[]>`
    select format('step %s of task %s has %s live rows', step, task_id, count(*)) as breach
    from line where state in ('waiting', 'granted', 'running') group by task_id, attempt, step having count(*) > 1
    union all
    select format('slot %s of %s %s, epoch %s, has %s rows', slot, host, coalesce(key, ''), host_epoch, count(*))
    from line where state in ('granted', 'running') group by pool, host, host_epoch, key, slot having count(*) > 1
    union all
    select format('task %s is %s and has a %s row for step %s', t.id, t.status, l.state, l.step)
    from line l join tasks t on t.id = l.task_id where l.state in ('waiting', 'granted', 'running') and t.status in ('completed', 'failed', 'cancelled')
    union all
    select format('task %s is at attempt %s and has a %s row of attempt %s', t.id, t.attempt, l.state, l.attempt)
    from line l join tasks t on t.id = l.task_id where l.state in ('waiting', 'granted', 'running') and l.attempt <> t.attempt
    union all
    select format('task %s is %s and holds %s', t.id, t.status, h.name)
    from holds h join tasks t on t.id = h.task_id where t.status in ('completed', 'failed', 'cancelled') or h.attempt <> t.attempt
    union all
    select format('task %s is %s and holds %s of %s', t.id, t.status, a.amount, a.pool)
    from allocations a join tasks t on t.id = a.task_id where t.status in ('completed', 'failed', 'cancelled') or a.attempt <> t.attempt
    union all
    select format('task %s is %s and waits for the lock %s', t.id, t.status, w.name)
    from lock_wishes w join tasks t on t.id = w.task_id where t.status in ('completed', 'failed', 'cancelled') or w.attempt <> t.attempt
    union all
    select format('row %s is %s without its lock %s', l.id, l.state, needed)
    from line l cross join unnest(l.locks) needed where l.state in ('granted', 'running')
      and not exists (select 1 from holds h where h.name = needed and h.task_id = l.task_id and h.attempt = l.attempt)
    union all
    select format('row %s is %s without its part of %s', l.id, l.state, n.key)
    from line l cross join jsonb_each_text(l.amounts) n where l.state in ('granted', 'running')
      and not exists (select 1 from allocations a where a.pool = n.key and a.amount = n.value::numeric and a.task_id = l.task_id and a.attempt = l.attempt)
    union all
    select format('step %s of task %s, attempt %s, run %s, is committed %s times', step, task_id, attempt, run_id, count(*))
    from task_executions where status = 'completed' group by task_id, attempt, step, run_id having count(*) > 1
    union all
    select format('row %s is done without its result', l.id)
    from line l left join task_executions e on e.id = l.execution_id and e.status = 'completed' where l.state = 'done' and e.id is null
    union all
    select format('task %s is %s with a wrong set of times', id, status)
    from tasks where (status in ('completed', 'failed', 'cancelled')) <> (completed_at is not null) or (status = 'running' and started_at is null) or (status = 'queued' and started_at is not null)
    union all
    select format('task %s is queued although its step %s has been claimed', t.id, l.step)
    from tasks t join line l on l.task_id = t.id and l.attempt = t.attempt where t.status = 'queued' and l.state in ('running', 'done')
    union all
    select format('row %s may be granted although a dependency of task %s is open', l.id, l.task_id)
    from line l join tasks t on t.id = l.task_id where t.status = 'queued' and (l.state in ('granted', 'running') or (l.state = 'waiting' and l.not_before < 'infinity'))
      and exists (select 1 from task_dependencies d join tasks p on p.id = d.parent_task_id where d.child_task_id = l.task_id and p.status <> 'completed'
        -- a parent that was reset outside after it had completed takes nothing back
        and not exists (select 1 from task_events e where e.task_id = p.id and e.kind = 'reset_outside'))
    union all
    select format('row %s waits for dependencies of task %s that have all completed', l.id, l.task_id)
    from line l join tasks t on t.id = l.task_id where l.state = 'waiting' and l.not_before = 'infinity' and t.cancel_requested_at is null
      and not exists (select 1 from task_dependencies d join tasks p on p.id = d.parent_task_id where d.child_task_id = l.task_id and p.status <> 'completed')
    union all
    select format('host %s has %s open orders', host, count(*)) from residency_orders where state = 'open' and pull_model is null group by host having count(*) > 1`;
  return rows.map((row) => row.breach);
}
