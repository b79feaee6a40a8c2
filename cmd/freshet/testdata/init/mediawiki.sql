-- A wiki: everything is bytes, timestamps are BINARY(14).
CREATE TABLE page (page_id int unsigned NOT NULL AUTO_INCREMENT, page_namespace int NOT NULL, page_title varbinary(255) NOT NULL, page_is_redirect tinyint unsigned NOT NULL DEFAULT 0, page_random double unsigned NOT NULL, page_touched binary(14) NOT NULL, page_latest int unsigned NOT NULL, page_lang varbinary(35) DEFAULT NULL, PRIMARY KEY (page_id));
CREATE TABLE revision (rev_id bigint unsigned NOT NULL AUTO_INCREMENT, rev_page int unsigned NOT NULL, rev_timestamp binary(14) NOT NULL, rev_minor_edit tinyint unsigned NOT NULL DEFAULT 0, rev_len int unsigned DEFAULT NULL, rev_sha1 varbinary(32) NOT NULL DEFAULT '', PRIMARY KEY (rev_id));
CREATE TABLE objectcache (keyname varbinary(255) NOT NULL DEFAULT '', value mediumblob, exptime binary(14) NOT NULL, PRIMARY KEY (keyname));
CREATE TABLE text (old_id int unsigned NOT NULL AUTO_INCREMENT, old_text mediumblob NOT NULL, old_flags tinyblob NOT NULL, PRIMARY KEY (old_id));
INSERT INTO page VALUES (1, 0, 'Main_Page', 0, 0.123456789012, '20240101000000', 1, NULL), (2, -1, x'C3BC', 1, 0, '20240101000001', 2, 'de');
INSERT INTO revision VALUES (1, 1, '20240101000000', 0, 1024, 'phoiac9h4m842xq45sp7s6u21eteeq1'), (2, 2, '20240101000001', 1, NULL, '');
INSERT INTO objectcache VALUES ('wiki:k', x'1F8B0800', '20380101000000');
INSERT INTO text VALUES (1, 'Wikitext', 'utf-8'), (2, x'00', '');
