-- +goose Up
CREATE TABLE freshet_displaced (
    source VARBINARY(300) NOT NULL,
    off BIGINT NOT NULL,
    kind VARBINARY(1) NOT NULL,
    name VARBINARY(512) NOT NULL,
    created_at BIGINT NOT NULL,
    PRIMARY KEY (source, off, kind, name)
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

-- +goose Down
DROP TABLE freshet_displaced;
