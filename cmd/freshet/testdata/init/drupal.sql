-- Content entities: ascii varchars in keys, serialized blobs, deltas.
CREATE TABLE node_field_data (nid int unsigned NOT NULL, vid int unsigned NOT NULL, type varchar(32) CHARACTER SET ascii NOT NULL, langcode varchar(12) CHARACTER SET ascii NOT NULL, status tinyint NOT NULL, title varchar(255) NOT NULL, created int NOT NULL, promote tinyint NOT NULL, PRIMARY KEY (nid, langcode)) DEFAULT CHARSET = utf8mb4;
CREATE TABLE config (collection varchar(255) CHARACTER SET ascii NOT NULL DEFAULT '', name varchar(255) CHARACTER SET ascii NOT NULL DEFAULT '', data longblob, PRIMARY KEY (collection, name));
CREATE TABLE cache_entity (cid varchar(255) CHARACTER SET ascii COLLATE ascii_bin NOT NULL DEFAULT '', data longblob, expire bigint NOT NULL DEFAULT 0, created decimal(14,3) NOT NULL DEFAULT 0.000, serialized smallint NOT NULL DEFAULT 0, tags longtext, checksum varchar(255) CHARACTER SET ascii NOT NULL, PRIMARY KEY (cid));
CREATE TABLE node__body (bundle varchar(128) CHARACTER SET ascii NOT NULL DEFAULT '', deleted tinyint NOT NULL DEFAULT 0, entity_id int unsigned NOT NULL, langcode varchar(32) CHARACTER SET ascii NOT NULL DEFAULT '', delta int unsigned NOT NULL, body_value longtext NOT NULL, body_format varchar(255) CHARACTER SET ascii DEFAULT NULL, PRIMARY KEY (entity_id, deleted, delta, langcode)) DEFAULT CHARSET = utf8mb4;
INSERT INTO node_field_data VALUES (1, 1, 'page', 'en', 1, 'Héllo', 1700000000, 0), (1, 2, 'page', 'de', 0, 'Hallo', 0, 1);
INSERT INTO config VALUES ('language.de', 'system.site', 'a:1:{}'), ('x', 'system.site', x'00FF80');
INSERT INTO cache_entity VALUES ('entity:node:1', x'80', -1, 1700000000.123, 1, 'node:1 node_list', '5');
INSERT INTO node__body VALUES ('page', 0, 1, 'en', 0, '<p>ok</p>', 'basic_html'), ('page', 0, 1, 'de', 1, '', NULL);
