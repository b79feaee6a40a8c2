-- +goose Up
CREATE TABLE freshet_replay (
    id VARBINARY(40) NOT NULL,
    spec MEDIUMBLOB NOT NULL,
    state VARBINARY(16) NOT NULL,
    actor VARBINARY(64) NOT NULL,
    rate INT NOT NULL DEFAULT 0,
    invalidation_rate INT NOT NULL DEFAULT 0,
    owner VARBINARY(255) NOT NULL DEFAULT '',
    lease_until BIGINT NOT NULL DEFAULT 0,
    takeovers INT NOT NULL DEFAULT 0,
    problem VARBINARY(1000) NOT NULL DEFAULT '',
    idem VARBINARY(200) NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    PRIMARY KEY (id),
    UNIQUE KEY freshet_replay_idem (idem),
    KEY freshet_replay_state (state, created_at)
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

-- +goose Down
DROP TABLE freshet_replay;
