-- Monitoring: ids that are never generated, doubles and unsigned counters, keys of cuids.
CREATE TABLE hosts (hostid bigint unsigned NOT NULL, host varchar(128) COLLATE utf8mb4_bin NOT NULL DEFAULT '', status integer NOT NULL DEFAULT 0, ipmi_authtype integer NOT NULL DEFAULT -1, description text NOT NULL, tls_psk varchar(512) NOT NULL DEFAULT '', name_upper varchar(128) NOT NULL DEFAULT '', PRIMARY KEY (hostid)) DEFAULT CHARSET = utf8mb4 COLLATE = utf8mb4_bin;
CREATE TABLE history (itemid bigint unsigned NOT NULL, clock integer NOT NULL DEFAULT 0, value double NOT NULL DEFAULT 0, ns integer NOT NULL DEFAULT 0, PRIMARY KEY (itemid, clock, ns));
CREATE TABLE history_uint (itemid bigint unsigned NOT NULL, clock integer NOT NULL DEFAULT 0, value bigint unsigned NOT NULL DEFAULT 0, ns integer NOT NULL DEFAULT 0, PRIMARY KEY (itemid, clock, ns));
CREATE TABLE task_data (taskid varchar(25) COLLATE utf8mb4_bin NOT NULL, type integer NOT NULL DEFAULT 0, data longblob NOT NULL, PRIMARY KEY (taskid));
INSERT INTO hosts VALUES (10084, 'Zabbix server', 0, -1, '', '', 'ZABBIX SERVER');
INSERT INTO history VALUES (1, 1700000000, 0.30000000000000004, 123456789), (1, 1700000000, -1.5e-310, 1);
INSERT INTO history_uint VALUES (18446744073709551615, -1, 18446744073709551615, 999999999);
INSERT INTO task_data VALUES ('ckv1', 2, x'00010203');
