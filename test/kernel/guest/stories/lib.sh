# SPDX-License-Identifier: MIT
# Sourced by every story. A story is a list of lines
#
#   it 'does what the sentence says' function
#
# each run in a shell of its own that stops at the first command that fails and
# undoes what it set up, last in, first out. Prints "ok - SENTENCE" or
# "not ok - SENTENCE" with the function's output; what was left behind (a device
# that cannot be removed, a mount, a process) fails the test too. The host's
# test reads the sentences from the story itself (test/kernel/story.ts). With
# ONLY=WORDS in the environment, only sentences with these words are tried.
set -u
export LC_ALL=C
PROGRAMS=$(dirname "${BASH_SOURCE[0]}")/../build # snapbak among them: the command line in one file, see bundle.mjs
PATH=$(realpath "$PROGRAMS"):$PATH
DISK=/dev/vda # slices of it are lower devices
T= # a test's own folder, in memory
exec {NOTHING}<> <(:) # what never comes to be read

it() {
	local rc
	[[ $1 == *${ONLY:-}* ]] || return 0
	T=$(mktemp -d /dev/shm/story.XXXXXX)
	(
		UNDO=()
		# without "exit", a function that ends well would hide a step that cannot be undone
		trap 'rc=$?; trap - EXIT; set +e; [ $rc = 0 ] || witness; tidy || rc=1; exit $rc' EXIT
		set -eE
		trap 'echo "line $LINENO: $BASH_COMMAND"' ERR
		"$2"
	) </dev/null >"$T/output" 2>&1
	rc=$?
	if [ $rc = 0 ]; then
		echo "ok - $1"
	else
		tail -n 40 "$T/output" | sed 's/^/# /'
		echo "not ok - $1"
	fi
	rm -rf "$T"
}

# What there is to see when a test fails.
witness() {
	dmsetup status
	tail -v -n 3 "$T"/*.log "$T"/*.churn
	dmesg | tail -n 5
} 2>/dev/null

# Adds a command that undoes something.
defer() {
	UNDO+=("$*")
}

tidy() {
	local i rc=0
	for ((i = ${#UNDO[@]} - 1; i >= 0; i--)); do
		eval "${UNDO[i]}" || { echo "cannot undo: ${UNDO[i]}"; rc=1; }
	done
	return $rc
}

# fail WORDS: ends the test.
fail() {
	echo "$*"
	exit 1
}

# equal WHAT IS MUST
equal() {
	[ "$2" = "$3" ] || fail "$1: it is $2, and must be $3"
}

# at_least WHAT IS MUST
at_least() {
	[ "$2" -ge "$3" ] || fail "$1: it is $2, and must be at least $3"
}

# at_most WHAT IS MUST
at_most() {
	[ "$2" -le "$3" ] || fail "$1: it is $2, and must be at most $3"
}

# Times are those of a stock kernel; where each access to memory is checked, all takes some ten times as long.
PATIENCE=1
[ ! -e /sys/kernel/debug/kmemleak ] || PATIENCE=10

# within WHAT IS MILLISECONDS
within() {
	at_most "$1" "$2" $(($3 * PATIENCE))
}

# until_true SECONDS COMMAND...: waits for it.
until_true() {
	local end=$((SECONDS + $1 * PATIENCE))
	shift
	until "$@"; do
		[ $SECONDS -lt $end ] || fail "it never came to this: $*"
		pause 0.02
	done
}

# pause SECONDS: as sleep, which is a program: starting it many times a second takes the processor from
# what is waited for.
pause() {
	! read -rt "$1" -u "$NOTHING"
}

# has FILE WORDS: as grep -q, for the same reason.
has() {
	local lines=()
	mapfile -t lines <"$1"
	[[ ${lines[*]} == *"$2"* ]]
}

# refused COMMAND...: it must fail.
refused() {
	if "$@"; then fail "this must fail: $*"; fi
}

milliseconds() {
	local now=${EPOCHREALTIME/./}
	echo $((now / 1000))
}

# MiB that are free, or would be if they were wanted. The caches are not emptied
# for it: programs would come back to other pages, which virtiofsd fills behind
# QEMU's back, and QEMU goes on to run what it translated of these pages before.
free_mib() {
	sync
	awk '/^(MemFree|Buffers|Cached|SReclaimable):/ { sum += $2 } /^Shmem:/ { sum -= $2 }
		END { print int(sum / 1024) }' /proc/meminfo
}

# --- devices

# table NAME <<<TABLE: a device-mapper device that is removed at the end.
table() {
	dmsetup create "$1"
	defer "remove_device $1"
}

# Nothing may keep a device longer than it takes to let go of it.
remove_device() {
	local i
	[ -e "/dev/mapper/$1" ] || return 0
	for i in {1..50}; do
		dmsetup remove "$1" 2>/dev/null && return 0
		sleep 0.02
	done
	dmsetup remove "$1"
}

# slice NAME SECTORS [START]: a linear device on the story's disk.
slice() {
	table "$1" <<<"0 $2 linear $DISK ${3:-0}"
}

# origin NAME LOWER [OFFSET]: the driver over the whole of a lower device, or from OFFSET on.
origin() {
	local sectors
	sectors=$(($(blockdev --getsz "$2") - ${3:-0}))
	table "$1" <<<"0 $sectors snapbak $2 ${3:-0}"
}

# stamped NAME SECTORS: lower device NAME-lower, origin NAME, a stamp in every sector, told in $T/NAME.map.
stamped() {
	slice "$1-lower" "$2"
	origin "$1" "/dev/mapper/$1-lower"
	stamp-tool fill "/dev/mapper/$1" "$T/$1.map"
}

# The n-th figure of a device's statistics: 1 reads, 3 sectors read, 5 writes, 16 flushes.
figure() {
	local figures
	read -ra figures <"/sys/dev/block/$(device_number "$1")/stat"
	echo "${figures[$2 - 1]}"
}

device_number() {
	local major minor
	read -r major minor < <(stat -Lc '0x%t 0x%T' "$1")
	echo $((major)):$((minor))
}

# --- requests: put NAME KIND OFFSET LENGTH prints what stamp-tool says; the contents are in $T/NAME.map

put() {
	stamp-tool put "/dev/mapper/$1" "$T/$1.map" "$2" "$3" "$4"
}

# remember NAME: the contents as they are now, in $T/NAME.then.
remember() {
	cp "$T/$1.map" "$T/$1.then"
}

# holds FILE MAP [ARGUMENT...]: FILE has what MAP tells.
holds() {
	stamp-tool check "$@"
}

# churn NAME [ARGUMENT...]: writers in the background, until end_churn.
churn() {
	local name=$1
	shift
	rm -f "$T/$name.stop"
	stamp-tool churn "/dev/mapper/$name" "$T/$name.map" --until "$T/$name.stop" "$@" >"$T/$name.churn" &
	CHURN=$!
	CHURN_NAME=$name
	defer "end_process $CHURN"
}

# The writers must still be there, and come to a good end.
end_churn() {
	kill -0 "$CHURN" || fail "the writers have died"
	touch "$T/$CHURN_NAME.stop"
	wait "$CHURN" || fail "the writers failed"
}

# With its children, if it is a function in the background.
end_process() {
	if kill -STOP "$1" 2>/dev/null; then
		pkill -KILL -P "$1"
		kill -KILL "$1"
		wait "$1" 2>/dev/null
	fi
	return 0
}

# keep_open FILE: somebody has it open, as a mount has, until let_go.
keep_open() {
	exec 8<>"$1"
	defer let_go
}

let_go() {
	exec 8>&-
}

# --- backups: start_backup NAME [ARGUMENT...] returns when the point in time is fixed

start_backup() {
	local name=$1
	shift
	: >"$T/$name.log" # what the one before said is no word of this one
	backup-tool --origin "/dev/mapper/$name" --image "$T/$name.img" "$@" >"$T/$name.log" &
	BACKUP=$!
	BACKUP_NAME=$name
	defer "end_process $BACKUP"
	until_true 60 started
}

started() {
	kill -0 "$BACKUP" 2>/dev/null || fail "the backup ended before it started: $(cat "$T/$BACKUP_NAME.log")"
	has "$T/$BACKUP_NAME.log" started
}

# start_command DIRECTORY [OPTION...]: the real program, of the origin o, from the
# project's folder; returns when the point in time is fixed.
start_command() {
	: >"$T/events"
	snapbak backup /dev/mapper/o "$@" --json >"$T/events" 2>"$T/words" &
	BACKUP=$!
	defer "end_process $BACKUP"
	until_true 120 told started
}

# told EVENT: the real program did.
told() {
	kill -0 "$BACKUP" 2>/dev/null || fail "it ended before it told of $1: $(tail -n 2 "$T/events" "$T/words")"
	has "$T/events" "\"event\":\"$1\""
}

# end_backup [STATUS]: lets it sweep, and waits for its end.
end_backup() {
	local rc=0
	kill -USR1 "$BACKUP" 2>/dev/null || true
	wait "$BACKUP" || rc=$?
	equal "the backup's exit status ($(tail -n 1 "$T/$BACKUP_NAME.log"))" $rc "${1:-0}"
}

# reported NAME FIELD: a figure of the backup's last words.
reported() {
	tail -n 1 "$T/$1.log" | sed -n "s/.*\"$2\": \"\?\([^,\"}]*\).*/\1/p"
}

# state NAME: idle, or what the session on it is in, of dmsetup status.
state() {
	dmsetup status "$1" | cut -d' ' -f4
}

# counter NAME N: a later word of dmsetup status: 2 pending blocks, 4 captured, 5 slots used, 7 held now.
counter() {
	dmsetup status "$1" | cut -d' ' -f$((3 + $2))
}

is_counter() {
	[ "$(counter "$1" "$2")" = "$3" ]
}

# has_captured NAME N: so many blocks at least, or all there are.
has_captured() {
	is_state "$1" idle || [ "$(counter "$1" 4)" -ge "$2" ]
}

is_state() {
	[ "$(state "$1")" = "$2" ]
}
