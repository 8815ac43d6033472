-- Up Migration
-- What has ended is listed by its end, also that of one user, with the fields by which people filter; `id` orders what ended at the same moment.
create index tasks_ended_list on tasks (completed_at desc, id desc) include (status, template, type, priority_level, user_id, name, created_at, started_at) where completed_at is not null;
create index tasks_user_ended_list on tasks (user_id, completed_at desc, id desc) include (status, template, type, priority_level, name, created_at, started_at) where completed_at is not null;
drop index tasks_ended;
-- Orders of models that failed lately are told to whoever looks at the models.
create index residency_orders_ended on residency_orders (ended_at desc) where state <> 'open';
