-- A tracker: seconds without fractions, integers as flags, floats of hours.
CREATE TABLE issues (id int NOT NULL AUTO_INCREMENT, tracker_id int NOT NULL, subject varchar(255) NOT NULL DEFAULT '', description longtext, due_date date DEFAULT NULL, lock_version int NOT NULL DEFAULT 0, created_on timestamp NULL DEFAULT NULL, done_ratio int NOT NULL DEFAULT 0, estimated_hours float DEFAULT NULL, is_private tinyint(1) NOT NULL DEFAULT 0, closed_on datetime DEFAULT NULL, PRIMARY KEY (id));
CREATE TABLE time_entries (id int NOT NULL AUTO_INCREMENT, issue_id int DEFAULT NULL, hours float NOT NULL, comments varchar(1024) DEFAULT NULL, spent_on date NOT NULL, tyear int NOT NULL, tweek int NOT NULL, PRIMARY KEY (id));
CREATE TABLE settings (id int NOT NULL AUTO_INCREMENT, name varchar(255) NOT NULL DEFAULT '', value text, updated_on timestamp NULL DEFAULT NULL, PRIMARY KEY (id));
INSERT INTO issues VALUES (1, 1, 'Bug', NULL, NULL, 0, '2024-01-01 00:00:00', 100, 0.25, 0, NULL), (2, 2, '', 'x', '2024-06-01', 7, NULL, 0, 1234567.9, 1, '2024-01-01');
INSERT INTO time_entries VALUES (1, 1, 0.1, NULL, '2024-01-01', 2024, 1), (2, NULL, 8, REPEAT('x', 1024), '2024-12-31', 2024, 53);
INSERT INTO settings VALUES (1, 'app_title', 'Redmine', NULL);
