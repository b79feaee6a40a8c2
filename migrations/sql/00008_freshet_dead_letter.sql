-- +goose Up
CREATE TABLE freshet_dead_letter (
    source VARBINARY(300) NOT NULL,
    off BIGINT NOT NULL,
    idx INT NOT NULL,
    dataset VARBINARY(128) NOT NULL,
    record_key VARBINARY(512) NULL,
    version BIGINT NULL,
    op TINYINT NULL,
    event_id VARBINARY(255) NULL,
    reason VARBINARY(32) NOT NULL,
    errno INT NULL,
    detail VARBINARY(1000) NOT NULL,
    kafka_key MEDIUMBLOB NULL,
    headers MEDIUMBLOB NULL,
    data LONGBLOB NULL,
    size BIGINT NOT NULL,
    broker_at BIGINT NOT NULL,
    state VARBINARY(16) NOT NULL,
    attempts INT NOT NULL DEFAULT 0,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    PRIMARY KEY (source, off, idx),
    KEY freshet_letters (dataset, state, record_key)
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

-- +goose Down
DROP TABLE freshet_dead_letter;
