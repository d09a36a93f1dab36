# Sessions on several origins that share one START.
. "$(dirname "$0")/lib.sh"

MiB=2048 # sectors

# a and b count; c, between them, is slow to stop.
three_origins() {
	modprobe dm-delay
	slice a-lower $((4 * MiB))
	slice b-lower $((4 * MiB)) $((4 * MiB))
	table c-lower <<<"0 $((4 * MiB)) delay $DISK $((8 * MiB)) 30"
	origin a /dev/mapper/a-lower
	origin b /dev/mapper/b-lower
	origin c /dev/mapper/c-lower
}

pairs() {
	three_origins
	counter-pair --origin /dev/mapper/a --origin /dev/mapper/c --origin /dev/mapper/b --rounds 60
}
it 'have one instant: a counter written to one and then the other is never apart' pairs

apart() {
	local said
	three_origins
	said=$(counter-pair --origin /dev/mapper/a --origin /dev/mapper/c --origin /dev/mapper/b --rounds 10 --separately)
	[[ $said =~ '"apart": '[1-9] ]] || fail "$said"
}
it 'would be seen apart if each had an instant of its own' apart

all_origins() {
	backup-tool --origin /dev/mapper/a --image "$T/a.img" --origin /dev/mapper/c --image "$T/c.img" \
		--origin /dev/mapper/b --image "$T/b.img" "$@"
}

# ext4_on NAME: mounted at $T/NAME.
ext4_on() {
	mkfs.ext4 -q "/dev/mapper/$1"
	mkdir "$T/$1"
	mount "/dev/mapper/$1" "$T/$1"
	defer "umount $T/$1"
}

can_write() {
	timeout 20 sh -c "echo it is written >$T/$1/file && sync -f $T/$1" || fail "$1 is frozen"
}

# A file system that somebody has frozen cannot be frozen again: START comes to it last.
all_or_nothing() {
	local origin
	three_origins
	ext4_on a
	ext4_on b
	fsfreeze -f "$T/b"
	defer "fsfreeze -u $T/b 2>/dev/null; true"
	refused all_origins 2>"$T/said"
	grep -q "Device or resource busy (failed device $(encoded_number /dev/mapper/b))" "$T/said" || fail "$(cat "$T/said")"
	for origin in a b c; do is_state $origin idle; done
	can_write a
	dd if=/dev/zero of=/dev/mapper/c bs=4k count=1 oflag=direct status=none
	fsfreeze -u "$T/b"
	can_write b
	all_origins
	can_write a
	e2fsck -fn "$T/a.img"
	e2fsck -fn "$T/b.img"
}
# As st_rdev tells it.
encoded_number() {
	stat -Lc '0x%t %T' "$1" | while read -r major minor; do printf '%#x\n' $((major << 8 | 0x$minor)); done
}
it 'stay as they were when one of them cannot be frozen, and it is named' all_or_nothing

slow_writes() {
	modprobe dm-delay
	slice a-lower $((4 * MiB))
	table c-lower <<<"0 $((4 * MiB)) delay $DISK $((8 * MiB)) 3000"
	origin a /dev/mapper/a-lower
	origin c /dev/mapper/c-lower
	stamp-tool fill /dev/mapper/a "$T/a.map"
	dd if=/dev/zero of=/dev/mapper/c bs=4k count=1 oflag=direct status=none &
	defer "end_process $!"
	sleep 0.2
	# the write to c is under way for three seconds, and START has half a second
	refused backup-tool --origin /dev/mapper/a --image "$T/a.img" --origin /dev/mapper/c --image "$T/c.img" \
		--start-timeout 500 2>"$T/said"
	grep -q "Connection timed out (failed device $(encoded_number /dev/mapper/c))" "$T/said" || fail "$(cat "$T/said")"
	is_state a idle
	put a write 0 4K
	holds /dev/mapper/a "$T/a.map"
	wait
}
it 'give up together when one of them does not stop in time, and name it' slow_writes

# b, with an ext4, is over a loop device over a file on the ext4 of a.
one_on_the_other() {
	modprobe -q loop || true
	slice a-lower $((24 * MiB))
	origin a /dev/mapper/a-lower
	ext4_on a
	truncate -s 12M "$T/a/disk.img"
	LOOP=$(losetup --show -f "$T/a/disk.img")
	defer "losetup -d $LOOP"
	origin b "$LOOP"
	ext4_on b
}

# Something dirty on both, for the freeze to write.
write_to_both() {
	dd if=/dev/urandom of="$T/a/news" bs=64k count=8 status=none
	dd if=/dev/urandom of="$T/b/news" bs=64k count=8 status=none
}

both_can_write() {
	can_write a
	can_write b
}

freeze_from_the_top() {
	local order rc
	one_on_the_other
	for order in '/dev/mapper/a /dev/mapper/b' '/dev/mapper/b /dev/mapper/a'; do
		write_to_both
		rc=0
		timeout 120 snapbak backup $order "$T/backup" 2>"$T/words" || rc=$?
		equal "the exit status of a backup of $order ($(tail -n 2 "$T/words"))" $rc 0
		both_can_write
		e2fsck -fn "$T/backup/a.img"
		e2fsck -fn "$T/backup/b.img"
		rm -r "$T/backup"
	done
}
it 'are frozen from the top, if the one stands on a file system on the other, however they are named' freeze_from_the_top

wrong_order() {
	local begin origin
	one_on_the_other
	write_to_both
	begin=$(milliseconds)
	refused timeout 120 backup-tool --start-timeout 2000 --origin /dev/mapper/a --image "$T/a.img" \
		--origin /dev/mapper/b --image "$T/b.img" 2>"$T/said"
	within 'the wait of START' $(($(milliseconds) - begin)) 20000
	grep -q "Connection timed out (failed device $(encoded_number /dev/mapper/b))" "$T/said" || fail "$(cat "$T/said")"
	for origin in a b; do is_state $origin idle; done
	both_can_write
	backup-tool --origin /dev/mapper/b --image "$T/b.img" --origin /dev/mapper/a --image "$T/a.img"
	both_can_write
	e2fsck -fn "$T/a.img"
	e2fsck -fn "$T/b.img"
}
it 'are let go in time where they were to be frozen from the bottom, which cannot be' wrong_order
