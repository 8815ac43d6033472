-- Up Migration
-- What retention removes is found by its age, whatever was decided.
create index orchestration_decisions_age on orchestration_decisions (created_at, id);
