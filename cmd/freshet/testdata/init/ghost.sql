-- A publishing platform: ids of 24 characters, documents in long texts.
CREATE TABLE posts (id varchar(24) NOT NULL, uuid varchar(36) NOT NULL, title varchar(2000) NOT NULL, slug varchar(191) NOT NULL, mobiledoc longtext, html longtext, featured tinyint(1) NOT NULL DEFAULT 0, status varchar(50) NOT NULL DEFAULT 'draft', created_at datetime NOT NULL, published_at datetime DEFAULT NULL, PRIMARY KEY (id)) DEFAULT CHARSET = utf8mb4;
CREATE TABLE members (id varchar(24) NOT NULL, email varchar(191) NOT NULL, email_open_rate int unsigned DEFAULT NULL, geolocation varchar(2000) DEFAULT NULL, last_seen_at datetime DEFAULT NULL, PRIMARY KEY (id), UNIQUE KEY email (email));
CREATE TABLE settings (id varchar(24) NOT NULL, `group` varchar(50) NOT NULL DEFAULT 'core', `key` varchar(50) NOT NULL, value text, type varchar(50) NOT NULL, flags varchar(50) DEFAULT NULL, PRIMARY KEY (id));
INSERT INTO posts VALUES ('5f8a', '123e4567-e89b-12d3-a456-426655440000', 'Coming soon ☕', 'coming-soon', '{"version":"0.3.1"}', NULL, 0, 'draft', '2024-01-01 00:00:00', NULL);
INSERT INTO members VALUES ('a', 'x@example.org', 100, NULL, '2024-01-01 00:00:00'), ('b', 'y@example.org', NULL, '', NULL);
INSERT INTO settings VALUES ('1', 'core', 'db_hash', 'x', 'string', NULL);
