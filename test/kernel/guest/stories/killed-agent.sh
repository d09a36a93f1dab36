# The process that owns a session is killed.
. "$(dirname "$0")/lib.sh"

MiB=2048 # sectors
SEED=${SEED:-1}

next_backup_is_good() {
	remember o
	start_backup o
	end_backup
	holds "$T/o.img" "$T/o.then"
	holds /dev/mapper/o "$T/o.map"
}

hundred_rounds() {
	local said
	stamped o $((32 * MiB - 3))
	churn o --seed "$SEED" --kinds write,dsync,nowait,buffered,zeroout,punch-hole,discard --pause 3000
	said=$(kill-rounds --origin /dev/mapper/o --rounds 100 --max-ms 150 --seed "$SEED" -- \
		backup-tool --origin /dev/mapper/o --image "$T/killed.img" --slots 4 --sweep-delay 3000 --on-full hold)
	# most of them in the middle of a session, or this was no test
	at_least 'kills in an armed session' "$(sed -n 's/.*"armed": \([0-9]*\).*/\1/p' <<<"$said")" 50
	end_churn
	is_state o idle
	holds /dev/mapper/o "$T/o.map"
	next_backup_is_good
}
it 'at any moment, a hundred times: no write is lost, and the next backup is good' hundred_rounds

# 32 MiB a session: thirty of them are as much as the machine has.
memory() {
	local before said
	stamped o $((8 * MiB))
	before=$(free_mib)
	said=$(kill-rounds --origin /dev/mapper/o --rounds 30 --max-ms 400 --seed "$SEED" -- \
		backup-tool --origin /dev/mapper/o --image "$T/killed.img" --slots 32 --block-size 1M --no-sweep)
	[[ $said == *'"endedBefore": 0'* ]] || fail "$said"
	at_most 'MiB that thirty sessions left behind' $((before - $(free_mib))) 64
	next_backup_is_good
}
it 'and gives back its memory each time' memory

# A write takes five seconds, START waits for it.
while_arming() {
	local begin
	modprobe dm-delay
	table o-lower <<<"0 $((4 * MiB)) delay $DISK 0 0 $DISK 0 5000"
	origin o /dev/mapper/o-lower
	dd if=/dev/zero of=/dev/mapper/o bs=4k count=1 oflag=direct status=none &
	defer "end_process $!"
	until_true 2 delayed_writes 1
	backup-tool --origin /dev/mapper/o --image "$T/killed.img" &
	BACKUP=$!
	until_true 2 is_state o ready
	sleep 0.3 # START comes next, and waits; a kill before that would end well, too
	begin=$(milliseconds)
	kill -KILL $BACKUP
	wait $BACKUP || true
	at_most 'ms that START outlived its process' $(($(milliseconds) - begin)) 2500
	is_state o idle
	# the gate is open: this write is at the lower device at once, and takes its five seconds there
	dd if=/dev/zero of=/dev/mapper/o bs=4k seek=1 count=1 oflag=direct status=none &
	defer "end_process $!"
	until_true 2 delayed_writes 2
	wait
}
# At this moment, by dm-delay's status.
delayed_writes() {
	[ "$(dmsetup status o-lower | cut -d' ' -f5)" = "$1" ]
}
it 'while START waits for a write: it ends at once, and the gate is open' while_arming

exits() {
	stamped o $((8 * MiB))
	for blocks in 0 1 20 60; do
		remember o
		churn o --kinds write
		refused_complete --exit-after $blocks
		until_true 5 is_state o idle
		end_churn
		holds /dev/mapper/o "$T/o.map"
	done
	next_backup_is_good
}
refused_complete() {
	backup-tool --origin /dev/mapper/o --image "$T/left.img" "$@" >"$T/o.log"
	if grep -q complete "$T/o.log"; then fail "it says that it is complete: $(cat "$T/o.log")"; fi
}
it 'or leaves without a word' exits
