# Writes for which no slot is free.
. "$(dirname "$0")/lib.sh"

MiB=2048 # sectors

# A stopped library with one slot, which a first write takes. ARGUMENT...: of the backup.
full() {
	stamped o $((4 * MiB))
	remember o
	start_backup o --slots 1 --stop-after 0 "$@"
	put o write 0 4K
}

# write_in_background NAME OFFSET: what it says comes to $T/NAME
write_in_background() {
	stamp-tool put /dev/mapper/o "$T/o.map" write "$2" 4K >"$T/$1" &
	eval "$1=$!"
	defer "end_process $!"
}

took() {
	sed -n 's/.*"ms": \([0-9]*\).*/\1/p' "$T/$1"
}

until_room() {
	full
	write_in_background second 64K
	write_in_background third 128K
	until_true 10 is_counter o 7 2
	kill -CONT "$BACKUP"
	wait "$second"
	wait "$third"
	end_backup
	at_least held "$(reported o held)" 2
	holds "$T/o.img" "$T/o.then"
	holds /dev/mapper/o "$T/o.map"
}
it 'wait until there is room again' until_room

histograms() {
	full --on-full hold --hold-timeout 60000
	write_in_background second 64K
	until_true 10 is_counter o 7 1
	kill -CONT "$BACKUP"
	wait "$second"
	end_backup
	at_least captured "$(reported o driverCaptured)" 1
	equal 'times of captures' "$(reported o captureTimes)" "$(reported o driverCaptured)"
	at_least 'ns of a capture' "$(reported o captureMaxNs)" 1
	# held again counts again
	at_least 'times of holds' "$(reported o holdTimes)" "$(reported o held)"
}
it 'are in the histograms, as captures are, once for each' histograms

only_those() {
	local said
	full
	write_in_background second 64K
	until_true 10 is_counter o 7 1
	put o write 0 4K # safe already
	said=$(put o nowait 128K 4K & sleep 0.3; kill -CONT "$BACKUP"; wait $!)
	[[ $said == *'"eagain": 1'* ]] || fail "a no-wait write: $said"
	wait "$second"
	end_backup
	holds "$T/o.img" "$T/o.then"
	holds /dev/mapper/o "$T/o.map"
}
it 'wait alone: to safe blocks others go on, and a no-wait write is refused' only_those

break_it() {
	full --hold-timeout 700
	write_in_background second 64K
	write_in_background third 128K
	wait "$second"
	wait "$third"
	is_state o broken
	at_least 'ms that it was held' "$(took second)" 690
	within 'ms that it was held' "$(took second)" 3000
	put o write 192K 4K # nothing is captured any more
	kill -CONT "$BACKUP"
	end_backup 3
	equal reason "$(reported o reason)" 3
	is_state o idle
	holds /dev/mapper/o "$T/o.map"
}
it 'break the session when they have waited too long, and go on' break_it

keep_waiting() {
	full --on-full hold --hold-timeout 300
	write_in_background second 64K
	until_true 10 is_counter o 7 1
	sleep 1.5
	is_counter o 7 1
	is_state o armed
	kill -CONT "$BACKUP"
	wait "$second"
	at_least 'ms that it was held' "$(took second)" 1500
	end_backup
	holds "$T/o.img" "$T/o.then"
	holds /dev/mapper/o "$T/o.map"
}
it 'wait longer than that with the policy to hold, and the backup comes to a good end' keep_waiting

until_stalled() {
	full --on-full hold --hold-timeout 100 --stall-timeout 900
	write_in_background second 64K
	wait "$second"
	is_state o broken
	at_least 'ms that it was held' "$(took second)" 890
	within 'ms that it was held' "$(took second)" 3000
	kill -CONT "$BACKUP"
	end_backup 3
	equal reason "$(reported o reason)" 6
	is_state o idle
	holds /dev/mapper/o "$T/o.map"
}
it 'all go on when the library lives and drains nothing' until_stalled

# A stopped library with sixteen slots, that said before how fast it drains: a block
# in 500 ms. The counts tell who was delayed, on however slow a machine: neither the
# nine writes up to the watermark, nor the one to a safe block.
slowed() {
	local i before
	stamped o $((4 * MiB))
	remember o
	start_backup o --slots 16 --stop-after 0 --throttle 128K
	for i in {0..12}; do put o write $((i * 64))K 4K; done
	before=$(milliseconds)
	put o write 832K 4K
	# three quarters of the way to full: one and a half times that after the one before
	write_in_background second 896K
	put o write 0 4K
	wait "$second"
	at_least 'ms from the write before until a delayed one was through' $(($(milliseconds) - before)) 750
	within 'ms that a write was delayed' "$(took second)" 5000
	kill -CONT "$BACKUP"
	end_backup
	equal 'delayed writes' "$(reported o delayed)" 6
	equal 'held writes' "$(reported o held)" 0
	holds "$T/o.img" "$T/o.then"
	holds /dev/mapper/o "$T/o.map"
}
it 'are few, because writes that need a slot are slowed down before, and no others' slowed

until_death() {
	local begin
	full --on-full hold --hold-timeout 60000
	churn o --threads 16 --block-size 16K
	until_true 20 many_held
	begin=$(milliseconds)
	kill -KILL "$BACKUP"
	wait "$BACKUP" || true
	until_true 5 is_state o idle
	within 'ms from the death to the end of the session' $(($(milliseconds) - begin)) 3000
	sleep 0.2
	end_churn
	holds /dev/mapper/o "$T/o.map"
}
many_held() {
	[ "$(counter o 7)" -ge 10 ]
}
it 'all go on when the library dies' until_death

by_message() {
	full --on-full hold --hold-timeout 60000
	write_in_background second 64K
	until_true 10 is_counter o 7 1
	dmsetup message o 0 break
	wait "$second"
	kill -CONT "$BACKUP"
	end_backup 3
	equal reason "$(reported o reason)" 1
	holds /dev/mapper/o "$T/o.map"
}
it 'all go on when the administrator says so' by_message

slow_target() {
	local slow
	stamped o $((8 * MiB))
	remember o
	start_backup o --no-sweep --slots 2 --drain-delay 20000 --sweep-delay 20000 --run-blocks 1 --hold-timeout 20000
	churn o --threads 8 --kinds write,zeroout,discard,dsync
	until_true 30 has_captured o 10
	kill -USR1 "$BACKUP" || true # it may be done
	until_true 60 is_state o idle
	end_churn
	end_backup
	at_least held "$(reported o held)" 5
	# far from its patience: whatever is wanted comes first
	slow=$(($(reported o heldMaxNs) / 1000000))
	within 'ms that a write was held' $slow 5000
	holds "$T/o.img" "$T/o.then"
	holds /dev/mapper/o "$T/o.map"
}
it 'go at the speed of a slow target, each in its turn' slow_target
