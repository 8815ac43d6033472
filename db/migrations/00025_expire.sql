-- Up Migration
-- As in 00003_decide.sql; a grant that nobody could be told of again, since no engine was there, begins its time anew instead of losing its place.
create or replace function line_expire() returns jsonb language plpgsql as $$
declare
  r record;
  v_again jsonb := '[]';
  v_age interval;
  v_taken_back boolean := false;
begin
  for r in select * from line where state = 'granted' and granted_at < clock_timestamp() - interval '2 seconds' order by id for update skip locked loop
    v_age := clock_timestamp() - r.granted_at;
    if v_age >= interval '15 seconds' and r.signals < 2 then
      -- an engine that lives has told it twice by now
      update line set granted_at = clock_timestamp(), signals = 0 where id = r.id;
      v_again := v_again || line_grant_json(r.id);
    elsif v_age >= interval '15 seconds' then
      perform line_take_back(r.id, clock_timestamp() + least(interval '10 minutes', interval '15 seconds' * power(2, least(r.misses, 10))), r.misses + 1, 'unanswered');
      v_taken_back := true;
    elsif r.signals = 0 or (r.signals = 1 and v_age >= interval '6 seconds') then
      update line set signals = case when v_age >= interval '6 seconds' then 2 else 1 end where id = r.id;
      v_again := v_again || line_grant_json(r.id);
    end if;
  end loop;
  if v_taken_back then perform pg_notify('line', ''); end if;
  return v_again;
end $$;
