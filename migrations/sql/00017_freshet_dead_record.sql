-- +goose Up
CREATE TABLE freshet_dead_record (
    source VARBINARY(300) NOT NULL,
    off BIGINT NOT NULL,
    kafka_key MEDIUMBLOB NULL,
    headers MEDIUMBLOB NULL,
    data LONGBLOB NULL,
    PRIMARY KEY (source, off)
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

-- +goose Down
DROP TABLE freshet_dead_record;
