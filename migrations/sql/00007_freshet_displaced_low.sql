-- +goose Up
CREATE TABLE freshet_displaced_low (
    source VARBINARY(300) NOT NULL,
    off BIGINT NOT NULL,
    PRIMARY KEY (source)
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

-- +goose Down
DROP TABLE freshet_displaced_low;
