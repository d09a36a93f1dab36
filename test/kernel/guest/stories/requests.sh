# Every kind of request that can meet a pending block, one at a time.
. "$(dirname "$0")/lib.sh"

MiB=2048 # sectors

last_short_block() {
	stamped o $((16 * 128 + 5))
	remember o
	start_backup o --no-sweep
	put o write $((16 * 64))K 2560
	equal captured "$(counter o 4)" 1
	end_backup
	holds "$T/o.img" "$T/o.then"
	holds /dev/mapper/o "$T/o.map"
	equal 'size of the image' "$(stat -c %s "$T/o.img")" $((16 * 65536 + 2560))
}
it 'captures the last, shorter block' last_short_block

many_blocks() {
	stamped o $((4 * MiB))
	remember o
	start_backup o --no-sweep --block-size 16K --slots 128
	# from the middle of block 3 to the middle of block 75
	put o write $((3 * 16 + 8))K $((72 * 16))K
	equal captured "$(counter o 4)" 73
	end_backup
	holds "$T/o.img" "$T/o.then"
	holds /dev/mapper/o "$T/o.map"
}
it 'captures every block of a write over many, in part or in whole' many_blocks

few_slots() {
	stamped o $((4 * MiB))
	remember o
	start_backup o --no-sweep --block-size 4K --slots 3
	put o write 4608 1M
	# those for which no slot was free were wanted, and claimed
	equal 'pending' "$(counter o 2)" $((1024 - 257))
	end_backup
	holds "$T/o.img" "$T/o.then"
	holds /dev/mapper/o "$T/o.map"
}
it 'makes a write over many more blocks than there are slots safe' few_slots

# The figures of the lower device: nobody else reads it.
one_read() {
	local size=$1 blocks=$((25 * MiB * 512 / $1)) n=0 reads sectors i
	start_backup o --no-sweep --block-size "$size" --slots 64
	reads=$(figure /dev/mapper/o-lower 1) sectors=$(figure /dev/mapper/o-lower 3)
	for ((i = 0; i < blocks && n < 24; i += blocks / 24 + 1, n++)); do
		put o write $((i * size)) 4096
	done
	equal "captures of $size" "$(counter o 4)" $n
	equal "reads for blocks of $size" $(($(figure /dev/mapper/o-lower 1) - reads)) $n
	equal "sectors read for blocks of $size" $(($(figure /dev/mapper/o-lower 3) - sectors)) $((n * size / 512))
	for ((i = 0; i < blocks; i += 4 * (blocks / 24 + 1))); do
		put o write $((i * size)) 4096
	done
	equal "reads after second touches" $(($(figure /dev/mapper/o-lower 1) - reads)) $n
	end_backup
}
first_touch() {
	stamped o $((25 * MiB))
	one_read 4096
	one_read 65536
	one_read 1048576
}
it 'reads the lower device exactly once for each first touch, and never for a second' first_touch

# requests_of DEVICE: how many requests a write of 1 MiB is for the lower device.
requests_of() {
	local before
	before=$(figure /dev/mapper/o-lower 5)
	dd if=/dev/zero of="$1" bs=1M count=1 seek="$2" oflag=direct status=none
	echo $(($(figure /dev/mapper/o-lower 5) - before))
}
no_splitting() {
	local plain
	slice o-lower $((8 * MiB))
	table plain <<<"0 $((8 * MiB)) linear /dev/mapper/o-lower 0"
	plain=$(requests_of /dev/mapper/plain 0)
	remove_device plain
	origin o /dev/mapper/o-lower
	equal idle "$(requests_of /dev/mapper/o 1)" "$plain"
	start_backup o --no-sweep --block-size 4K --slots 512
	equal 'to pending blocks' "$(requests_of /dev/mapper/o 2)" "$plain"
	equal captured "$(counter o 4)" 256
	equal 'to safe blocks' "$(requests_of /dev/mapper/o 2)" "$plain"
	end_backup
}
it 'passes a write over many blocks in as few requests as dm-linear does' no_splitting

kinds() {
	local kind n=0
	stamped o $((8 * MiB))
	remember o
	start_backup o --no-sweep
	for kind in write dsync nowait buffered zeroout zero-range punch-hole; do
		put o $kind $((n * 192 + 4))K 68K
		n=$((n + 1))
		equal "captured after $kind" "$(counter o 4)" $((2 * n))
	done
	end_backup
	holds "$T/o.img" "$T/o.then"
	holds /dev/mapper/o "$T/o.map"
	holds /dev/mapper/o-lower "$T/o.map"
}
it 'captures before a write, a forced, a no-wait, a buffered one, and before zeroes however they come' kinds

discards() {
	stamped o $((8 * MiB))
	remember o
	start_backup o --no-sweep
	put o write 256K 64K # block 4 is safe
	equal captured "$(counter o 4)" 1
	put o discard 128K 512K # blocks 2 to 9: all but block 4 pending
	equal 'captured for a discard' "$(counter o 4)" 1
	# put looked which sectors are zeroes now, and told the map
	cmp -n 65536 -i 262144:0 /dev/mapper/o /dev/zero
	end_backup
	at_least 'discards dropped' "$(reported o discardsDropped)" 1
	holds "$T/o.img" "$T/o.then"
	holds /dev/mapper/o "$T/o.map"
}
it 'passes the part of a discard that meets safe blocks, and drops the rest' discards

whole_discard() {
	stamped o $((32 * MiB))
	remember o
	start_backup o --no-sweep --slots 2
	put o write 1M 4K
	put o discard 0 32M
	equal 'captured' "$(counter o 4)" 1
	end_backup
	equal held "$(reported o held)" 0
	holds "$T/o.img" "$T/o.then"
	holds /dev/mapper/o "$T/o.map"
}
it 'is not flooded by a discard of the whole device' whole_discard

nowait() {
	local said
	stamped o $((4 * MiB))
	said=$(put o nowait 0 4K)
	[[ $said == *'"eagain": 0'* ]] || fail "without a session: $said"
	start_backup o --no-sweep
	said=$(put o nowait 64K 4K)
	[[ $said == *'"eagain": 1'* ]] || fail "to a pending block: $said"
	said=$(put o nowait 64K 4K)
	[[ $said == *'"eagain": 0'* ]] || fail "to the block that is safe now: $said"
	end_backup
	equal 'refused no-wait writes' "$(reported o eagain)" 1
	holds /dev/mapper/o "$T/o.map"
}
it 'refuses a no-wait write with EAGAIN only where it would wait' nowait

# backup-tool calls it a fault when three times nobody woke it (copy.c).
wake_ups() {
	local i
	stamped o $((4 * MiB))
	remember o
	start_backup o --no-sweep
	for i in 1 2 3 4 5; do
		sleep 0.4
		put o write ${i}28K 4K
	done
	sleep 0.4
	end_backup
	equal captured "$(reported o captured)" 5
	holds "$T/o.img" "$T/o.then"
}
it 'wakes the library when it sleeps' wake_ups

unlisted() {
	stamped o $((4 * MiB))
	remember o
	start_backup o --no-sweep --list 0:512K --list 1M:64K
	put o write 512K 512K
	put o discard 1088K 256K
	equal 'captured outside the list' "$(counter o 4)" 0
	put o write 448K 128K
	equal 'captured inside' "$(counter o 4)" 1
	put o write 1020K 8K
	equal 'captured inside' "$(counter o 4)" 2
	end_backup
	equal 'copied' $(($(reported o captured) + $(reported o swept))) 9
	holds "$T/o.img" "$T/o.then" --list 0:512K --list 1M:64K
	holds /dev/mapper/o "$T/o.map"
}
it 'leaves blocks alone that are not listed' unlisted

# The disk has no FUA: each forced write is a write and a flush there.
flushes() {
	local before
	stamped o $((4 * MiB))
	start_backup o --no-sweep
	for place in 0 0 128K; do
		before=$(figure $DISK 16)
		put o dsync $place 4K
		at_least "flushes for a forced write at $place" $(($(figure $DISK 16) - before)) 1
	done
	before=$(figure $DISK 16)
	put o flush 0 512
	at_least 'flushes for a flush' $(($(figure $DISK 16) - before)) 1
	before=$(figure $DISK 16)
	put o write 256K 4K
	equal 'flushes for a plain write and its capture' $(($(figure $DISK 16) - before)) 0
	end_backup
}
it 'hands flushes and forced writes on as such' flushes

offset_lower() {
	slice low $((4 * MiB))
	stamp-tool fill /dev/mapper/low "$T/low.map"
	cp "$T/low.map" "$T/low.then"
	origin o /dev/mapper/low 777
	stamp-tool fill /dev/mapper/o "$T/o.map"
	remember o
	start_backup o --no-sweep
	churn o --requests 60 --kinds write,zeroout,discard
	wait "$CHURN"
	end_backup
	at_least captured "$(reported o captured)" 10
	holds "$T/o.img" "$T/o.then"
	holds /dev/mapper/low "$T/o.map" --offset $((777 * 512))
	holds /dev/mapper/low "$T/low.then" --list 0:$((777 * 512))
}
it 'keeps to its part of a lower device when it does not begin at its start' offset_lower

reads_go_on() {
	local begin
	stamped o $((4 * MiB))
	remember o
	start_backup o --no-sweep --slots 1 --stop-after 0 --hold-timeout 60000
	put o write 0 4K # takes the only slot
	stamp-tool put /dev/mapper/o "$T/o.map" write 64K 4K >"$T/held" &
	defer "end_process $!"
	until_true 10 is_counter o 7 1
	begin=$(milliseconds)
	dd if=/dev/mapper/o of="$T/read" bs=64K skip=1 count=1 iflag=direct status=none
	cmp -n 65536 -i 0:65536 "$T/read" /dev/mapper/o-lower
	within 'ms that a read took' $(($(milliseconds) - begin)) 5000
	kill -CONT "$BACKUP"
	end_backup
}
it 'lets reads pass while writes to the same block are held' reads_go_on

fstrim_session() {
	slice o-lower $((64 * MiB))
	origin o /dev/mapper/o-lower
	modprobe loop
	mkfs.ext4 -q -E nodiscard /dev/mapper/o
	mkdir "$T/mnt" "$T/back"
	mount /dev/mapper/o "$T/mnt"
	defer "umount $T/mnt"
	for i in 1 2 3 4 5 6; do head -c 3M /dev/urandom >"$T/mnt/$i"; done
	rm "$T/mnt/2"
	(cd "$T/mnt" && sha256sum -- ?) >"$T/sums"
	sync -f "$T/mnt"
	start_backup o --slots 16 --sweep-delay 20000 --run-blocks 4
	rm "$T/mnt"/[135]
	sync -f "$T/mnt"
	fstrim "$T/mnt"
	head -c 8M /dev/urandom >"$T/mnt/new"
	sync -f "$T/mnt"
	fstrim "$T/mnt"
	end_backup
	at_least 'discards dropped' "$(reported o discardsDropped)" 1
	e2fsck -fn "$T/o.img"
	mount -o loop,ro,noload "$T/o.img" "$T/back"
	defer "umount $T/back"
	(cd "$T/back" && sha256sum --quiet -c "$T/sums" && equal files "$(echo ?)" '1 3 4 5 6')
	umount "$T/mnt"
	e2fsck -fn /dev/mapper/o
	mount /dev/mapper/o "$T/mnt"
}
it 'gives a clean ext4 of the start instant though fstrim runs during the session' fstrim_session
