# Tables that are swapped, suspended and removed, and a module that is unloaded, at bad moments.
. "$(dirname "$0")/lib.sh"

MiB=2048 # sectors

# swap NAME TABLE: live, as lvm and dmsetup users do it.
swap() {
	dmsetup suspend "$1"
	dmsetup load "$1" --table "$2"
	dmsetup resume "$1"
}

broken_with() {
	end_backup 3
	equal reason "$(reported o reason)" "$1"
}

busy() {
	stamped o $((4 * MiB))
	remember o
	start_backup o --no-sweep
	keep_open /dev/mapper/o
	refused dmsetup remove o 2>/dev/null
	put o write 0 4K
	let_go
	end_backup
	holds "$T/o.img" "$T/o.then"
}
it 'survives an attempt to remove its device while that is in use' busy

removed() {
	stamped o $((4 * MiB))
	start_backup o --no-sweep
	put o write 0 4K
	remove_device o
	broken_with 5
	holds /dev/mapper/o-lower "$T/o.map"
}
it 'breaks when its device is removed' removed

by_force() {
	local writer
	stamped o $((4 * MiB))
	start_backup o --slots 1 --stop-after 0 --hold-timeout 60000
	put o write 0 4K
	# one held, and one after the other from somebody who keeps the device open
	stamp-tool put /dev/mapper/o "$T/o.map" write 64K 4K >"$T/held" &
	writer=$!
	defer "end_process $writer"
	until_true 10 is_counter o 7 1
	# its flush waits for the held write: only a death or the time ends that wait
	dmsetup remove --force o &
	defer "end_process $!"
	sleep 0.5
	kill -CONT "$BACKUP"
	wait "$writer"
	wait "$BACKUP" || true
	until_true 10 test ! -e /dev/mapper/o
	holds /dev/mapper/o-lower "$T/o.map"
}
it 'lets a held write go before its device is removed by force' by_force

# The table becomes one of errors while writers go on: they fail, nothing hangs.
error_table() {
	stamped o $((4 * MiB))
	start_backup o --no-sweep
	put o write 0 4K
	keep_open /dev/mapper/o
	dmsetup remove --force o 2>/dev/null || true
	refused put o write 64K 4K
	broken_with 5
	let_go
	remove_device o
	holds /dev/mapper/o-lower "$T/o.map"
}
it 'breaks when its device is turned into one of errors under its users' error_table

to_linear_and_back() {
	stamped o $((16 * MiB))
	churn o --pause 1000
	start_backup o --no-sweep
	swap o "0 $((16 * MiB)) linear /dev/mapper/o-lower 0"
	broken_with 5
	sleep 0.3
	swap o "0 $((16 * MiB)) snapbak /dev/mapper/o-lower 0"
	is_state o idle
	start_backup o --slots 4
	sleep 0.2
	end_backup
	end_churn
	holds /dev/mapper/o "$T/o.map"
	remember o
	start_backup o --no-sweep
	put o write 1M 1M
	end_backup
	holds "$T/o.img" "$T/o.then"
}
it 'breaks when another table takes its place under writers, and the next works when it is back' to_linear_and_back

same_again() {
	stamped o $((4 * MiB))
	start_backup o --no-sweep
	swap o "0 $((4 * MiB)) snapbak /dev/mapper/o-lower 0"
	broken_with 5
	remember o
	start_backup o --no-sweep
	put o write 0 64K
	end_backup
	holds "$T/o.img" "$T/o.then"
}
it 'breaks when its table is loaded anew: what was written in between nobody knows' same_again

suspended() {
	local i
	stamped o $((16 * MiB))
	remember o
	start_backup o --no-sweep --slots 4 --sweep-delay 5000 --run-blocks 2
	churn o --kinds write,dsync,zeroout,discard
	until_true 30 has_captured o 4
	kill -USR1 "$BACKUP" || true # it may be done
	for i in {1..12}; do
		dmsetup suspend o
		dmsetup resume o
		# without a flush, and without freezing what is mounted
		dmsetup suspend --noflush --nolockfs o
		sleep 0.02
		dmsetup resume o
	done
	until_true 60 is_state o idle
	end_churn
	end_backup
	holds "$T/o.img" "$T/o.then"
	holds /dev/mapper/o "$T/o.map"
}
it 'goes on through suspends and resumes' suspended

suspend_with_held() {
	stamped o $((4 * MiB))
	start_backup o --slots 1 --stop-after 0 --hold-timeout 1000
	put o write 0 4K
	stamp-tool put /dev/mapper/o "$T/o.map" write 64K 4K >"$T/held" &
	defer "end_process $!"
	until_true 10 is_counter o 7 1
	timeout 20 dmsetup suspend o
	dmsetup resume o
	wait $!
	is_state o broken
	kill -CONT "$BACKUP"
	broken_with 3
	holds /dev/mapper/o "$T/o.map"
}
it 'does not keep a suspend waiting for longer than a write may be held' suspend_with_held

# Whether this table comes back is not known while the device is suspended.
finish_suspended() {
	stamped o $((4 * MiB))
	remember o
	start_backup o --no-sweep
	dmsetup suspend o
	kill -USR1 "$BACKUP"
	sleep 0.7
	kill -0 "$BACKUP" || fail 'it said that it was complete while another table could take its place'
	dmsetup resume o
	end_backup
	holds "$T/o.img" "$T/o.then"

	start_backup o --no-sweep
	dmsetup suspend o
	kill -USR1 "$BACKUP"
	sleep 0.7
	dmsetup load o --table "0 $((4 * MiB)) linear /dev/mapper/o-lower 0"
	dmsetup resume o
	broken_with 5
}
it 'is complete only when it is certain that no other table has taken its place' finish_suspended

start_suspended() {
	stamped o $((4 * MiB))
	remember o
	dmsetup suspend o
	defer 'dmsetup resume o'
	backup-tool --origin /dev/mapper/o --image "$T/o.img" >"$T/o.log" &
	BACKUP=$! BACKUP_NAME=o
	defer "end_process $BACKUP"
	sleep 0.5
	dmsetup resume o
	end_backup
	holds "$T/o.img" "$T/o.then"
}
it 'starts on a device that is suspended for a moment' start_suspended

resized() {
	slice o-lower $((8 * MiB))
	stamp-tool fill /dev/mapper/o-lower "$T/whole.map"
	table o <<<"0 $((4 * MiB)) snapbak /dev/mapper/o-lower 0"
	start_backup o --no-sweep
	swap o "0 $((8 * MiB)) snapbak /dev/mapper/o-lower 0"
	broken_with 5
	start_backup o
	end_backup
	holds "$T/o.img" "$T/whole.map"
}
it 'breaks when its device grows, and the next covers all of it' resized

bad_tables() {
	local try
	slice low $((4 * MiB))
	for try in "" "/dev/mapper/low" "/dev/mapper/low x" "/dev/mapper/low -1" "/dev/mapper/low 0 1" \
		"/dev/mapper/low 1" "/dev/mapper/low 8192" "/dev/mapper/none 0" "/dev/null 0" \
		"/dev/mapper/low 18446744073709551615" "/dev/mapper/low 99999999999999999999"; do
		refused dmsetup create o --table "0 $((4 * MiB)) snapbak $try" 2>/dev/null
	done
	# one line from the start on, or none
	refused dmsetup create o 2>/dev/null <<-EOT
		0 4096 snapbak /dev/mapper/low 0
		4096 4096 linear /dev/mapper/low 4096
	EOT
	refused dmsetup create o 2>/dev/null <<-EOT
		0 4096 linear /dev/mapper/low 0
		4096 4096 snapbak /dev/mapper/low 4096
	EOT
	origin o /dev/mapper/low
	equal table "$(dmsetup table o | cut -d' ' -f3,5)" "snapbak 0"
	refused dmsetup message o 0 nonsense 2>/dev/null
	refused dmsetup message o 0 break 2>/dev/null # there is no session
}
it 'is never begun by a table that makes no sense' bad_tables

unloading() {
	stamped o $((4 * MiB))
	refused rmmod dm-snapbak 2>/dev/null
	start_backup o --no-sweep
	refused rmmod dm-snapbak 2>/dev/null
	put o write 0 4K
	kill -STOP "$BACKUP"
	remove_device o
	# its descriptor is still open
	refused rmmod dm-snapbak 2>/dev/null
	kill -CONT "$BACKUP"
	broken_with 5
	until_true 5 rmmod dm-snapbak
	test ! -e /dev/snapbak/control
	insmod "$MODULE"
	origin o /dev/mapper/o-lower
	remember o
	start_backup o
	end_backup
	holds "$T/o.img" "$T/o.then"
}
it 'keeps its module loaded as long as anything of it is in use' unloading
