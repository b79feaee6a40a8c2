-- +goose Up
CREATE TABLE freshet_meta (
    name VARBINARY(300) NOT NULL,
    value MEDIUMBLOB NOT NULL,
    PRIMARY KEY (name)
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

-- +goose Down
DROP TABLE freshet_meta;
