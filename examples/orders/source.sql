-- The service's own table. `freshet outbox ddl` prints the outbox beside it.
CREATE TABLE IF NOT EXISTS orders (
  id BIGINT UNSIGNED NOT NULL AUTO_INCREMENT PRIMARY KEY,
  customer VARCHAR(100) NOT NULL,
  total DECIMAL(12,2) NOT NULL,
  status VARCHAR(10) NOT NULL DEFAULT 'open'
) ENGINE = InnoDB CHARACTER SET utf8mb4
