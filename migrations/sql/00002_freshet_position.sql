-- +goose Up
CREATE TABLE freshet_position (
    source VARBINARY(300) NOT NULL,
    grp VARBINARY(255) NOT NULL,
    fence BIGINT NOT NULL DEFAULT 0,
    gen BIGINT NOT NULL DEFAULT -1,
    owner VARBINARY(255) NOT NULL,
    next_offset BIGINT NOT NULL DEFAULT -1,
    touched_at BIGINT NOT NULL DEFAULT 0,
    PRIMARY KEY (source)
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

-- +goose Down
DROP TABLE freshet_position;
