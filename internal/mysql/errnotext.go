package mysql

import "fmt"

// ErrnoText returns "mysql error N", followed by what the error means and how to fix it for the numbers that setups run
// into. The server's own text is not shown anywhere: it may quote a row.
func ErrnoText(n uint16) string {
	text := fmt.Sprintf("mysql error %d", n)
	if words := errnoWords(n); words != "" {
		return text + ": " + words
	}
	return text
}

func errnoWords(n uint16) string {
	switch n {
	case 1040, 1203, 1226:
		return "the server has no connection left for this account; raise max_connections or the account's limit, or lower worker.writers and mysql.max_conns"
	case 1461:
		return "the server's prepared statements are used up; raise max_prepared_stmt_count, or lower worker.writers"
	case 1021, 1114, 1041, 1037, 1038:
		return "the server has no disk space or memory left; free some"
	case 1044, 1045, 1142, 1143, 1227, 1370, 1410, 1698:
		return "access denied; check user, password and grants"
	case 1130:
		return "the server does not accept connections from this host; correct the account's host part"
	case 1129:
		return "the server blocks this host after too many failed connections; run FLUSH HOSTS, or raise max_connect_errors"
	case 1049:
		return "the database does not exist; create it, or correct the DSN"
	case 1820, 1862:
		return "the account's password has expired; change it"
	case 3118, 4151:
		return "the account is locked; unlock it with ALTER USER … ACCOUNT UNLOCK"
	case 3955:
		return "the account is blocked after too many failed logins; wait, or unlock it with ALTER USER … ACCOUNT UNLOCK"
	case 1251:
		return "the account's authentication method is not one that clients of this kind have; use mysql_native_password or caching_sha2_password"
	case 3159:
		return "the server requires an encrypted connection; add tls=true to the DSN"
	case 1146:
		return "a table is missing; run freshet migrate up and freshet migrate datasets"
	case 1054:
		return "a column is missing; run freshet migrate up and freshet migrate datasets"
	case 1118:
		return "the row is too large for a page of InnoDB (8126 bytes) or for a row (65535 bytes); declare fewer columns, or longer texts, which are stored elsewhere"
	case 1364:
		return "the table has a NOT NULL column without a default that the dataset does not have; give it a default"
	case 1526:
		return "no partition of the table takes the row; add one"
	case 1665:
		return "the server logs statements, which the isolation level READ COMMITTED does not allow; set binlog_format = ROW"
	case 1253, 1267, 1271, 1273:
		return "a collation does not fit the text's character set; remove charset and collation from the DSN, and compare the table with freshet migrate datasets --dry-run"
	case 1213:
		return "a deadlock with another transaction; end what else locks rows of the table if it lasts"
	case 1205, 3572:
		return "another transaction holds a lock on the rows or the table; end it if it lasts"
	case 1969, 3024:
		return "the server ended the statement after its time limit; raise max_statement_time or max_execution_time for this account"
	case 1290, 1792, 1836, 3100:
		return "the server is read-only; connect to the primary"
	case 1644:
		return "a trigger of the table refuses the row"
	case 3819, 4025:
		return "a CHECK constraint of the table refuses the row"
	}
	return ""
}
