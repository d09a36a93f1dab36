#!/bin/bash
# SPDX-License-Identifier: MIT
# PostgreSQL for the tests, on the host and in the guest: Debian's programs, a cluster in the test's own
# folder, a Unix socket only, settings that make it write much and often. The rows of one client are
# noted outside the cluster as soon as their commit was confirmed; "check" compares.
#
#   postgresql.sh make DATA                  a new cluster with pgbench's tables; not running
#   postgresql.sh serve DATA RUN             the server itself: exec; its socket will be in RUN
#   postgresql.sh ready RUN                  waits until it takes connections
#   postgresql.sh bench RUN [RATE]           pgbench: exec; runs until it is killed; so many transactions a second
#   postgresql.sh note RUN JOURNAL [PAUSE]   for ever: insert a number, add "NUMBER BEGUN CONFIRMED" (us) to JOURNAL
#   postgresql.sh sums RUN                   pgbench's tables agree with each other
#   postgresql.sh check DATA RUN JOURNAL INSTANT
#                                            of a cluster that is a copy as of an instant (ISO 8601): see there
set -euo pipefail
export LC_ALL=C

programs=$(find /usr/lib/postgresql -mindepth 2 -maxdepth 2 -name bin | sort -V | tail -n 1)
[ -n "$programs" ] || { echo 'missing: PostgreSQL; to get it: apt-get install postgresql' >&2; exit 1; }

fail() {
	echo "$*" >&2
	exit 1
}

# It refuses to run as root. Whoever started it may be killed: it does not outlive that by more than a moment.
unprivileged() {
	exec setpriv --reuid nobody --regid nogroup --clear-groups --pdeathsig "$signal" "$programs/$1" "${@:2}"
}
signal=KILL

pg() {
	(unprivileged "$@")
}

sql() {
	pg psql -X -q -A -t -v ON_ERROR_STOP=1 -h "$1" -U test -d postgres -c "$2"
}

# Its file descriptors and its log are those of who called.
serve() {
	signal=QUIT # at once, and its children with it
	unprivileged postgres -D "$1" -c unix_socket_directories="$2"
}

# ready RUN [PID]: of the server, which may end instead
ready() {
	local end=$((SECONDS + ${PATIENCE:-1} * 60))
	until pg pg_isready -q -h "$1" -U test -d postgres; do
		[ -z "${2:-}" ] || kill -0 "$2" || fail 'PostgreSQL has ended'
		[ $SECONDS -lt $end ] || fail "PostgreSQL does not take connections at $1"
		sleep 0.1
	done
}

# Small segments and buffers: WAL is recycled, pages are evicted and checkpoints made all the time.
make_cluster() {
	install -d -m 700 -o nobody -g nogroup "$1" "$1.run"
	pg initdb -D "$1" -U test -A trust -E UTF8 --locale C --data-checksums --wal-segsize 1 --no-sync >/dev/null
	cat >>"$1/postgresql.conf" <<-SETTINGS
		listen_addresses = ''
		fsync = on
		synchronous_commit = on
		full_page_writes = on
		shared_buffers = 4MB
		min_wal_size = 2MB
		max_wal_size = 4MB
		checkpoint_timeout = 30s
		max_connections = 20
		autovacuum_naptime = 1s
		jit = off
		log_checkpoints = on
	SETTINGS
	serve_here "$1" "$1.run" "$1.log"
	pg pgbench -i -q -s 1 -h "$1.run" -U test postgres 2>/dev/null
	sql "$1.run" 'CREATE TABLE journal (n integer PRIMARY KEY)'
	pg psql -X -q -h "$1.run" -U test -d template1 -c 'CREATE EXTENSION amcheck'
	sql "$1.run" 'CREATE EXTENSION amcheck'
	end_server
	rm -r "$1.run" "$1.log"
}

# serve_here DATA RUN LOG, until end_server or the end of this script.
serve_here() {
	(serve "$1" "$2") >"$3" 2>&1 &
	server=$!
	trap 'kill -QUIT $server 2>/dev/null && wait $server; :' EXIT
	(ready "$2" $server) || { tail -n 20 "$3" >&2; exit 1; }
}

end_server() {
	kill -INT $server
	wait $server || fail "PostgreSQL ended with exit status $?"
	trap - EXIT
}

bench() {
	unprivileged pgbench -n -c 2 -T 86400 ${2:+-R "$2"} -h "$1" -U test postgres
}

# psql shows a row when the server has confirmed the whole statement, and that is after its commit.
note() {
	local n said begun
	coproc PSQL { unprivileged psql -X -q -A -t -v ON_ERROR_STOP=1 -h "$1" -U test -d postgres; }
	for ((n = 1; ; n++)); do
		begun=$EPOCHREALTIME
		echo "INSERT INTO journal VALUES ($n) RETURNING n;" >&"${PSQL[1]}"
		read -r said <&"${PSQL[0]}" || fail 'the client of the journal has ended'
		[ "$said" = $n ] || fail "the client of the journal said $said and not $n"
		echo "$n ${begun/./} ${EPOCHREALTIME/./}" >>"$2"
		# a sleep that is no program: psql says nothing unasked
		[ -z "${3:-}" ] || ! read -rt "$3" -u "${PSQL[0]}" said || fail "the client of the journal said $said"
	done
}

sums() {
	local sums
	sums=$(sql "$1" 'SELECT (SELECT sum(abalance) FROM pgbench_accounts), (SELECT sum(tbalance) FROM pgbench_tellers),
		(SELECT sum(bbalance) FROM pgbench_branches), (SELECT coalesce(sum(delta), 0) FROM pgbench_history),
		(SELECT count(*) FROM pgbench_history)')
	IFS='|' read -r accounts tellers branches history transactions <<<"$sums"
	[ "$accounts" = "$history" ] && [ "$tellers" = "$history" ] && [ "$branches" = "$history" ] ||
		fail "pgbench's tables do not agree: accounts, tellers, branches, history, transactions: $sums"
	[ "$transactions" -gt 0 ] || fail 'pgbench committed nothing'
}

# What a copy must hold: PostgreSQL recovers it as after a crash; every structure is sound, and every page's
# checksum; the rows of the journal are 1, 2, 3, ... without a gap, all that were confirmed before the instant, and
# none that was begun after it.
check() {
	local data=$1 run=$2 instant confirmed begun later first last rows
	instant=$(date -d "$4" +%s%6N) # of its millisecond the beginning
	read -r confirmed begun later < <(awk -v instant="$instant" '
		$3 < instant { confirmed = $1 }
		$2 < instant + 1000 { begun = $1; next }
		{ later++ }
		END { print confirmed + 0, begun + 0, later + 0 }' "$3")
	[ "$confirmed" -gt 0 ] && [ "$later" -gt 0 ] ||
		fail "the journal proves nothing: $confirmed confirmed before the instant, $later begun after it"
	# says that a server runs, by a process id of then: here that of the original
	rm "$data/postmaster.pid"
	serve_here "$data" "$run" "$run/log"
	grep -q 'automatic recovery in progress' "$run/log" || fail 'it was no copy of a running server'
	pg pg_amcheck -h "$run" -U test --all --heapallindexed
	sums "$run"
	IFS='|' read -r first last rows <<<"$(sql "$run" 'SELECT min(n), max(n), count(*) FROM journal')"
	[ "$first" = 1 ] && [ "$rows" = "$last" ] || fail "the journal has $rows rows from $first to $last"
	[ "$last" -ge "$confirmed" ] || fail "row $confirmed was confirmed before the instant, and the last there is $last"
	[ "$last" -le "$begun" ] || fail "row $last was begun after the instant, and is there"
	end_server
	pg pg_checksums --check -D "$data" >/dev/null
	echo "recovered: $(sed -n 's/.*redo done at.*elapsed: \([0-9.]* s\).*/redo \1/p' "$run/log"), $transactions" \
		"transactions of pgbench, journal to $last ($confirmed confirmed before the instant, $later begun after it)"
}

case ${1:-} in
make) make_cluster "$2" ;;
serve | ready | bench | note | sums | check) "$@" ;;
*) fail "postgresql.sh: unknown: ${1:-}" ;;
esac
