-- The way up has nothing to do. The way down, before the table is dropped, gives the dead letters their records back, where earlier
-- releases look for them.
-- +goose Up
UPDATE freshet_dead_record SET `off` = `off` WHERE `off` < 0;

-- +goose Down
UPDATE freshet_dead_letter l JOIN freshet_dead_record r ON r.source = l.source AND r.`off` = l.`off`
SET l.kafka_key = r.kafka_key, l.headers = r.headers, l.data = r.data WHERE l.data IS NULL AND l.headers IS NULL AND l.kafka_key IS NULL;
