-- Up Migration
-- What ended in a range of time is read from an index alone: a row with its plan has kilobytes.
create index tasks_ended on tasks (completed_at desc) include (id, user_id, template, status, created_at, started_at) where completed_at is not null;
create index tasks_failed on tasks (completed_at desc) where status = 'failed';
-- As in 00014_many.sql, with the name, which people search for.
create index tasks_list_named on tasks (created_at desc, id desc) include (status, template, type, priority_level, user_id, name);
create index tasks_user_list_named on tasks (user_id, created_at desc, id desc) include (status, template, type, priority_level, name);
create index tasks_template_list_named on tasks (template, created_at desc, id desc) include (status, type, priority_level, user_id, name);
drop index tasks_list;
drop index tasks_user_list;
drop index tasks_template_list;
