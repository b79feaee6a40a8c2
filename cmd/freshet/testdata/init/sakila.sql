-- A film rental: SET, ENUM, YEAR, BLOB, a spatial column, a composite key.
CREATE TABLE actor (actor_id smallint unsigned NOT NULL AUTO_INCREMENT, first_name varchar(45) NOT NULL, last_name varchar(45) NOT NULL, last_update timestamp NOT NULL DEFAULT CURRENT_TIMESTAMP ON UPDATE CURRENT_TIMESTAMP, PRIMARY KEY (actor_id));
CREATE TABLE film (film_id smallint unsigned NOT NULL AUTO_INCREMENT, title varchar(128) NOT NULL, description text, release_year year DEFAULT NULL, rental_duration tinyint unsigned NOT NULL DEFAULT 3, rental_rate decimal(4,2) NOT NULL DEFAULT 4.99, length smallint unsigned DEFAULT NULL, rating enum('G','PG','PG-13','R','NC-17') DEFAULT 'G', special_features set('Trailers','Commentaries','Deleted Scenes','Behind the Scenes') DEFAULT NULL, PRIMARY KEY (film_id));
CREATE TABLE film_actor (actor_id smallint unsigned NOT NULL, film_id smallint unsigned NOT NULL, last_update timestamp NOT NULL DEFAULT CURRENT_TIMESTAMP, PRIMARY KEY (actor_id, film_id));
CREATE TABLE address (address_id smallint unsigned NOT NULL AUTO_INCREMENT, address varchar(50) NOT NULL, postal_code varchar(10) DEFAULT NULL, location geometry DEFAULT NULL, PRIMARY KEY (address_id));
CREATE TABLE staff (staff_id tinyint unsigned NOT NULL AUTO_INCREMENT, first_name varchar(45) NOT NULL, picture blob, active tinyint(1) NOT NULL DEFAULT 1, password varchar(40) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin DEFAULT NULL, PRIMARY KEY (staff_id));
INSERT INTO actor VALUES (1, 'PENÉLOPE', 'O''NEIL', '2006-02-15 04:34:33'), (2, 'NICK', 'W', '2006-02-15 04:34:33');
INSERT INTO film VALUES (1, 'ACADEMY', 'An epic "tale"', 2006, 6, 0.99, 86, 'PG', 'Deleted Scenes,Behind the Scenes'), (2, 'ACE', NULL, NULL, 255, 99.99, NULL, NULL, NULL), (3, 'Z', '', 1901, 0, 0, 0, 'NC-17', '');
INSERT INTO film_actor VALUES (1, 1, '2006-02-15 05:05:03'), (1, 3, '2006-02-15 05:05:03');
INSERT INTO address VALUES (1, '47 Sakila Drive', '', NULL);
INSERT INTO staff VALUES (1, 'Mike', x'89504E470D0A1A0A00', 1, '8cb2237d'), (2, 'Jon', NULL, 0, NULL);
