-- Up Migration
-- What holds a model in its server's memory: names that are answered from the same memory have the same runner, such as a model and one that was made from it
-- with another system prompt. Null where the model is not in memory.
alter table models add column runner text;
