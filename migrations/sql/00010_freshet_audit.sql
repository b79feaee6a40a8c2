-- +goose Up
CREATE TABLE freshet_audit (
    id BIGINT NOT NULL AUTO_INCREMENT,
    begun BIGINT NOT NULL DEFAULT 0,
    at BIGINT NOT NULL,
    actor VARBINARY(64) NOT NULL,
    role VARBINARY(16) NOT NULL,
    action VARBINARY(64) NOT NULL,
    target VARBINARY(1000) NOT NULL,
    outcome INT NOT NULL DEFAULT 0,
    detail MEDIUMBLOB NULL,
    PRIMARY KEY (id)
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

-- +goose Down
DROP TABLE freshet_audit;
