-- +goose Up
CREATE TABLE freshet_invalidation_outbox (
    id BIGINT UNSIGNED NOT NULL AUTO_INCREMENT,
    ns VARBINARY(32) NOT NULL,
    payload MEDIUMBLOB NOT NULL,
    created_at BIGINT NOT NULL,
    PRIMARY KEY (id)
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

-- +goose Down
DROP TABLE freshet_invalidation_outbox;
