-- +goose Up
CREATE TABLE freshet_lane (
    source VARBINARY(300) NOT NULL,
    ns VARBINARY(32) NOT NULL,
    lane INT NOT NULL,
    root VARBINARY(64) NOT NULL,
    start BIGINT NOT NULL,
    PRIMARY KEY (source, ns, lane, root)
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

-- +goose Down
DROP TABLE freshet_lane;
