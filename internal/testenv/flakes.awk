# Reads the events of go test -json: prints the output of failed tests as it comes, then a table of failures per test.
# Exits with 1 when there was one, or when no test ran.
function field(name,    s) {
	if (!match($0, "\"" name "\":\"[^\"]*\"")) return ""
	s = substr($0, RSTART, RLENGTH)
	return substr(s, length(name) + 5, length(s) - length(name) - 5)
}
/^\{/ {
	action = field("Action"); test = field("Test"); key = field("Package") " " test
	if (action == "output") {
		if (match($0, /"Output":".*"\}$/)) {
			line = substr($0, RSTART + 10, RLENGTH - 12)
			gsub(/\\n$/, "", line); gsub(/\\t/, "\t", line); gsub(/\\"/, "\"", line); gsub(/\\u003c/, "<", line); gsub(/\\u003e/, ">", line)
			log_of[key] = log_of[key] line "\n"
		}
	} else if (action == "pass" || action == "fail") {
		if (action == "fail") {
			printf "%s", log_of[key]
			failed[key]++
		}
		runs[key]++
		delete log_of[key]
	}
	next
}
{ print }
END {
	for (key in runs) if (split(key, part, " ") == 2) { tests++; all += runs[key] }
	print "flakes: " tests + 0 " tests, " all + 0 " runs"
	for (key in failed) {
		bad = 1
		split(key, part, " ")
		print "flakes: failed " failed[key] " of " runs[key] ": " part[1] " " (part[2] == "" ? "(package)" : part[2])
	}
	exit bad || !tests
}
