-- +goose Up
ALTER TABLE freshet_dead_letter ADD COLUMN successor VARBINARY(255) NULL;

-- +goose Down
ALTER TABLE freshet_dead_letter DROP COLUMN successor;
