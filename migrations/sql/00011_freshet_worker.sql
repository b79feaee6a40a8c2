-- +goose Up
CREATE TABLE freshet_worker (
    owner VARBINARY(255) NOT NULL,
    at BIGINT NOT NULL,
    state MEDIUMBLOB NOT NULL,
    PRIMARY KEY (owner)
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

-- +goose Down
DROP TABLE freshet_worker;
