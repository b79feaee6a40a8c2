-- A media store: capitals in names, national characters, money.
CREATE TABLE Track (TrackId int NOT NULL AUTO_INCREMENT, Name varchar(200) NOT NULL, Composer varchar(220) DEFAULT NULL, Milliseconds int NOT NULL, Bytes int DEFAULT NULL, UnitPrice decimal(10,2) NOT NULL, PRIMARY KEY (TrackId));
CREATE TABLE Invoice (InvoiceId int NOT NULL AUTO_INCREMENT, CustomerId int NOT NULL, InvoiceDate datetime NOT NULL, BillingAddress varchar(70) DEFAULT NULL, BillingPostalCode varchar(10) DEFAULT NULL, Total decimal(10,2) NOT NULL, PRIMARY KEY (InvoiceId));
CREATE TABLE PlaylistTrack (PlaylistId int NOT NULL, TrackId int NOT NULL, PRIMARY KEY (PlaylistId, TrackId));
INSERT INTO Track VALUES (1, 'For Those About To Rock', NULL, 343719, 11170334, 0.99), (2, 'Samba De Uma Nota Só (One Note Samba)', 'Tom Jobim', 0, NULL, -1.50);
INSERT INTO Invoice VALUES (1, 2, '2021-01-01 00:00:00', 'Theodor-Heuss-Straße 34', '70174', 1.98);
INSERT INTO PlaylistTrack VALUES (1, 1), (1, 2), (8, 1);
