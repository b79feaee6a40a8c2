-- +goose Up
ALTER TABLE freshet_lane ADD COLUMN replaced_at BIGINT NOT NULL DEFAULT 0;

-- +goose Down
ALTER TABLE freshet_lane DROP COLUMN replaced_at;
