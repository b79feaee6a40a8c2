-- +goose Up
CREATE TABLE freshet_topic (
    topic VARBINARY(249) NOT NULL,
    topic_id VARBINARY(64) NOT NULL,
    partitions INT NOT NULL,
    epoch BIGINT NOT NULL DEFAULT 0,
    flush_pending TINYINT NOT NULL DEFAULT 0,
    PRIMARY KEY (topic)
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

-- +goose Down
DROP TABLE freshet_topic;
