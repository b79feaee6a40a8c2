-- A discussion board: doubles as scores, addresses, long raw and cooked texts.
CREATE TABLE topics (id int NOT NULL AUTO_INCREMENT, title varchar(255) NOT NULL, last_posted_at datetime(3) DEFAULT NULL, created_at datetime(3) NOT NULL, views int NOT NULL DEFAULT 0, avg_time int DEFAULT NULL, score double DEFAULT NULL, ranking double NOT NULL DEFAULT 1, closed tinyint(1) NOT NULL DEFAULT 0, archetype varchar(255) NOT NULL DEFAULT 'regular', PRIMARY KEY (id));
CREATE TABLE posts (id int NOT NULL AUTO_INCREMENT, user_id int DEFAULT NULL, topic_id int NOT NULL, raw mediumtext NOT NULL, cooked mediumtext NOT NULL, reads_f float DEFAULT NULL, deleted_at datetime(3) DEFAULT NULL, locale varchar(20) DEFAULT NULL, PRIMARY KEY (id));
CREATE TABLE user_visits (user_id int NOT NULL, visited_at date NOT NULL, posts_read int DEFAULT 0, mobile tinyint(1) DEFAULT 0, time_read time NOT NULL DEFAULT '00:00:00', PRIMARY KEY (user_id, visited_at));
INSERT INTO topics VALUES (1, 'Welcome 👋', '2024-01-01 00:00:00.123', '2024-01-01 00:00:00', 5, NULL, 0.1, 1e-9, 0, 'regular');
INSERT INTO posts VALUES (1, NULL, 1, 'x', '<p>x</p>', 3.3, NULL, NULL), (2, 1, 1, '', '', -1e20, '2024-01-01 00:00:00.001', 'pt_BR');
INSERT INTO user_visits VALUES (1, '2024-02-29', 3, 1, '00:10:00'), (1, '2024-03-01', NULL, NULL, '-12:00:01');
