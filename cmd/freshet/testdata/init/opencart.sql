-- A small shop: decimal(15,8), text settings, a table without a primary key.
CREATE TABLE oc_product (product_id int NOT NULL AUTO_INCREMENT, model varchar(64) NOT NULL, location varchar(128) NOT NULL, price decimal(15,4) NOT NULL DEFAULT 0.0000, date_available date NOT NULL DEFAULT '0000-00-00', weight decimal(15,8) NOT NULL DEFAULT 0.00000000, status tinyint(1) NOT NULL DEFAULT 0, viewed int NOT NULL DEFAULT 0, date_modified datetime NOT NULL, PRIMARY KEY (product_id));
CREATE TABLE oc_setting (setting_id int NOT NULL AUTO_INCREMENT, store_id int NOT NULL DEFAULT 0, code varchar(128) NOT NULL, `key` varchar(128) NOT NULL, value text NOT NULL, serialized tinyint(1) NOT NULL, PRIMARY KEY (setting_id));
CREATE TABLE oc_no_key (a int NOT NULL, b int NOT NULL);
INSERT INTO oc_product VALUES (1, 'iPhone', '', 101.0000, '0000-00-00', 10.12345678, 1, 0, '2024-01-01 10:00:00'), (2, 'Apple', 'x', -5, '2024-01-01', 0, 0, 9, '2024-01-01 10:00:00');
INSERT INTO oc_setting VALUES (1, 0, 'config', 'config_name', 'Store', 0);
