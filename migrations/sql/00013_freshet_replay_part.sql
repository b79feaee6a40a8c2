-- +goose Up
CREATE TABLE freshet_replay_part (
    job VARBINARY(40) NOT NULL,
    source VARBINARY(300) NOT NULL,
    dataset VARBINARY(128) NOT NULL,
    from_off BIGINT NOT NULL,
    next_off BIGINT NOT NULL,
    end_off BIGINT NOT NULL,
    events BIGINT NOT NULL DEFAULT 0,
    applied BIGINT NOT NULL DEFAULT 0,
    stale BIGINT NOT NULL DEFAULT 0,
    invalid BIGINT NOT NULL DEFAULT 0,
    skipped BIGINT NOT NULL DEFAULT 0,
    invalidated BIGINT NOT NULL DEFAULT 0,
    samples MEDIUMBLOB NULL,
    PRIMARY KEY (job, source)
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

-- +goose Down
DROP TABLE freshet_replay_part;
