# The sweep yields to the application of a kernel origin. Runs in the project's folder.
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

MiB=2048 # sectors
SIZE=$((16 * MiB))

# Writes take 20 ms, whatever the sweep does: more than the goal, so the sweep goes as slowly as it can.
slow_writes() {
	modprobe dm-delay
	slice o-disk $SIZE
	table o-lower <<<"0 $SIZE delay /dev/mapper/o-disk 0 0 /dev/mapper/o-disk 0 20"
	origin o /dev/mapper/o-lower
	write_the_same_blocks &
	APPLICATION=$!
	defer "end_process $APPLICATION"
	snapbak backup /dev/mapper/o "$T/backup" --rate 2M --latency-goal 5ms --json \
		>"$T/events" 2>"$T/backup.log" &
	BACKUP=$!
	defer "end_process $BACKUP"
	until_true 120 yields
	at_least 'ms that a write takes, as the backup sees it' "$(last_figure latencyMs)" 20
	equal 'bytes a second that are left for the sweep' "$(last_figure sweepLimit)" 1048576
	kill $APPLICATION
	wait $APPLICATION || true
	until_true 60 yields_to_nobody
	wait $BACKUP
	grep -q '"event":"finished".*"state":"complete"' "$T/events"
}
# few of them: the sweep has all the others to copy
write_the_same_blocks() {
	while :; do
		dd if=/dev/zero of=/dev/mapper/o bs=4k count=64 oflag=direct status=none
	done
}
progress() {
	kill -0 $BACKUP 2>/dev/null || fail "it ended: $(tail -n 2 "$T/events" "$T/backup.log")"
	grep '"event":"progress"' "$T/events" | tail -n 1
}
yields() {
	[[ $(progress) == *'"sweepLimit":1048576'* ]]
}
yields_to_nobody() {
	[[ $(progress) != *sweepLimit* ]]
}
last_figure() {
	grep '"event":"progress"' "$T/events" | tail -n 1 | sed -n "s/.*\"$1\":\([0-9]*\).*/\1/p"
}
it 'when its writes take longer than the goal, and has the disk when it is quiet' slow_writes
