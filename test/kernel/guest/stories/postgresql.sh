# SPDX-License-Identifier: MIT
# PostgreSQL at work on an ext4 while the driver is put under it, a backup is
# made, and the driver is taken away. CLUSTER, in the environment, is a cluster
# that the host has made: that would take the emulation a minute. Disks: vda for
# the origin, vdb to restore to. Runs in the project's folder.
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
export PATIENCE

POSTGRESQL=$PWD/test/helpers/postgresql.sh

unmount() {
	! mountpoint -q "$1" || umount "$1"
}

# mounted DEVICE FOLDER
mounted() {
	mkdir "$2"
	mount "$1" "$2"
	defer unmount "$2"
}

# A folder for a server's socket.
run_folder() {
	install -d -o nobody -g nogroup "$1"
}

# job NAME COMMAND...: of postgresql.sh, until the test's end; sets JOB.
job() {
	(exec "$POSTGRESQL" "${@:2}") >"$T/$1.log" 2>&1 &
	JOB=$!
	defer "end_process $JOB"
}

# The clients are slow: the processors have other things to do here.
begin_database() {
	run_folder "$T/run"
	cp -a "$CLUSTER" "$T/live/data"
	sync -f "$T/live"
	: >"$T/journal"
	job server serve "$T/live/data" "$T/run"
	SERVER=$JOB
	"$POSTGRESQL" ready "$T/run" "$SERVER"
	job bench bench "$T/run" 10
	BENCH=$JOB
	job note note "$T/run" "$T/journal" 0.2
	NOTE=$JOB
}

# confirmed N: so many more rows of the journal are.
confirmed() {
	local rows
	mapfile -t rows <"$T/journal"
	until_true 60 has_rows $((${#rows[@]} + $1))
}

has_rows() {
	local rows job
	for job in "$BENCH" "$NOTE" "$SERVER"; do
		kill -0 "$job" || fail "one of PostgreSQL's processes has ended: $(tail "$T"/*.log)"
	done
	mapfile -t rows <"$T/journal"
	[ ${#rows[@]} -ge "$1" ]
}

# Its clients had no error, and it has what they were told.
end_database() {
	has_rows 1
	kill "$BENCH" "$NOTE"
	wait "$BENCH" "$NOTE" || true
	refused grep -iE 'error|abort|fatal' "$T/bench.log" "$T/note.log"
	"$POSTGRESQL" sums "$T/run"
	kill -INT "$SERVER"
	wait "$SERVER" || fail "PostgreSQL ended with exit status $?"
}

recovers() {
	local origin=/dev/mapper/o instant
	chmod 711 "$T"
	slice o $((112 * 2048))
	mkfs.ext4 -q $origin
	mounted $origin "$T/live"
	begin_database
	confirmed 5
	snapbak attach $origin
	defer "! [ -e $origin-snapbak ] || snapbak detach --force $origin"
	start_command "$T/backup" --blocks all --rate 24M
	confirmed 5
	wait "$BACKUP" || fail "snapbak backup: exit status $?: $(tail -n 2 "$T/events" "$T/words")"
	refused has <(tail -n 1 "$T/events") '"captured":0,'
	snapbak detach $origin
	confirmed 5
	end_database
	umount "$T/live"
	e2fsck -fn $origin

	snapbak restore --force "$T/backup" /dev/vdb
	mounted /dev/vdb "$T/restored"
	run_folder "$T/restored-run"
	instant=$(grep -o -m 1 '"startedAt":"[^"]*"' "$T/events" | cut -d'"' -f4)
	"$POSTGRESQL" check "$T/restored/data" "$T/restored-run" "$T/journal" "$instant"
	umount "$T/restored"
	e2fsck -fn /dev/vdb
}

it 'recovers PostgreSQL, under which the driver came and went, with all that it confirmed before the instant' recovers
