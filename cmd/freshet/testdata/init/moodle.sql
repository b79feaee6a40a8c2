-- A learning platform: bigint everywhere, decimals of five digits, long texts.
CREATE TABLE mdl_user (id bigint NOT NULL AUTO_INCREMENT, auth varchar(20) NOT NULL DEFAULT 'manual', confirmed tinyint(1) NOT NULL DEFAULT 0, username varchar(100) NOT NULL DEFAULT '', email varchar(100) NOT NULL DEFAULT '', calendartype varchar(30) NOT NULL DEFAULT 'gregorian', timecreated bigint NOT NULL DEFAULT 0, description longtext, PRIMARY KEY (id)) DEFAULT CHARSET = utf8mb4 ROW_FORMAT = COMPRESSED;
CREATE TABLE mdl_grade_grades (id bigint NOT NULL AUTO_INCREMENT, itemid bigint NOT NULL, userid bigint NOT NULL, rawgrade decimal(10,5) DEFAULT NULL, rawgrademax decimal(10,5) NOT NULL DEFAULT 100.00000, hidden bigint NOT NULL DEFAULT 0, feedback longtext, PRIMARY KEY (id));
CREATE TABLE mdl_files (id bigint NOT NULL AUTO_INCREMENT, contenthash varchar(40) NOT NULL DEFAULT '', filepath varchar(255) NOT NULL DEFAULT '', filesize bigint NOT NULL, mimetype varchar(100) DEFAULT NULL, sortorder bigint NOT NULL DEFAULT 0, PRIMARY KEY (id));
INSERT INTO mdl_user VALUES (1, 'manual', 1, 'guest', 'root@localhost', 'gregorian', 1700000000, NULL), (2, 'db', 0, 'ж', '', '', -1, 'é');
INSERT INTO mdl_grade_grades VALUES (1, 1, 2, 87.50000, 100, 0, 'ok'), (2, 1, 1, NULL, 10.00001, 1, NULL);
INSERT INTO mdl_files VALUES (1, 'da39a3ee', '/a b/', 9223372036854775807, 'text/plain', 0);
