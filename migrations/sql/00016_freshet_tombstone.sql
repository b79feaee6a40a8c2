-- +goose Up
CREATE TABLE freshet_tombstone (
    dataset VARBINARY(128) NOT NULL,
    deleted_at BIGINT NOT NULL,
    record_key VARBINARY(512) NOT NULL,
    PRIMARY KEY (dataset, deleted_at, record_key)
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

-- +goose Down
DROP TABLE freshet_tombstone;
