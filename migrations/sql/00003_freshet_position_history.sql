-- +goose Up
CREATE TABLE freshet_position_history (
    source VARBINARY(300) NOT NULL,
    off BIGINT NOT NULL,
    committed_at BIGINT NOT NULL,
    PRIMARY KEY (source, off)
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

-- +goose Down
DROP TABLE freshet_position_history;
