package outbox

// DDL returns the statements that create the tables of an outbox in a service's database, in order. They change nothing
// where the tables exist. They run on MariaDB 10.11 and on MySQL 8 and later.
//
// The first id is 2, because rows that a replica had before count as version 1, and no event must have their version.
//
// freshet_outbox has no index beside its primary key, so that writers pay for nothing else. freshet_relay has one row: the
// identity of this outbox, and the lease of the relay that publishes it. freshet_outbox_dead has the rows that can never be
// published, and freshet_backfill how far each run of freshet backfill came.
func DDL() []string {
	return []string{
		`CREATE TABLE IF NOT EXISTS freshet_outbox (
  id BIGINT UNSIGNED NOT NULL AUTO_INCREMENT,
` + eventColumns + `
  created_at TIMESTAMP(3) NOT NULL DEFAULT CURRENT_TIMESTAMP(3),
  PRIMARY KEY (id)
) ENGINE = InnoDB AUTO_INCREMENT = 2`,
		`CREATE TABLE IF NOT EXISTS freshet_outbox_dead (
  id BIGINT UNSIGNED NOT NULL,
` + eventColumns + `
  created_at TIMESTAMP(3) NOT NULL DEFAULT CURRENT_TIMESTAMP(3),
  refused_at TIMESTAMP(3) NOT NULL DEFAULT CURRENT_TIMESTAMP(3),
  reason VARCHAR(255) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
  PRIMARY KEY (id)
) ENGINE = InnoDB`,
		"CREATE TABLE IF NOT EXISTS freshet_relay (\n" +
			"  `one` TINYINT NOT NULL,\n" +
			"  `outbox` CHAR(36) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,\n" +
			"  `owner` VARCHAR(255) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL DEFAULT '',\n" +
			"  `fence` BIGINT UNSIGNED NOT NULL DEFAULT 0,\n" +
			"  `until` BIGINT NOT NULL DEFAULT 0,\n" +
			"  `high` BIGINT UNSIGNED NOT NULL DEFAULT 0,\n" +
			"  `low` BIGINT UNSIGNED NOT NULL DEFAULT 0,\n" +
			"  `floor` BIGINT UNSIGNED NOT NULL DEFAULT 0,\n" +
			"  `shift` BIGINT UNSIGNED NOT NULL DEFAULT 0,\n" +
			"  `server` VARCHAR(255) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL DEFAULT '',\n" +
			"  PRIMARY KEY (`one`)\n" +
			") ENGINE = InnoDB",
		"INSERT IGNORE INTO freshet_relay (`one`, `outbox`) VALUES (1, UUID())",
		`CREATE TABLE IF NOT EXISTS freshet_backfill (
  dataset VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
  source_table VARCHAR(200) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
  phase ENUM('rows','deletions','done') CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
  after_key BLOB NULL,
  loaded BIGINT UNSIGNED NOT NULL DEFAULT 0,
  invalid BIGINT UNSIGNED NOT NULL DEFAULT 0,
  deleted BIGINT UNSIGNED NOT NULL DEFAULT 0,
  started_at TIMESTAMP(3) NOT NULL DEFAULT CURRENT_TIMESTAMP(3),
  changed_at TIMESTAMP(3) NOT NULL DEFAULT CURRENT_TIMESTAMP(3) ON UPDATE CURRENT_TIMESTAMP(3),
  PRIMARY KEY (dataset)
) ENGINE = InnoDB`,
	}
}

const eventColumns = `  dataset VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
  record_key VARCHAR(512) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
  op ENUM('upsert','delete') CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
  data MEDIUMTEXT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NULL,
  version BIGINT UNSIGNED NULL,
  traceparent VARCHAR(1024) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NULL,
  tracestate VARCHAR(1024) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NULL,`
