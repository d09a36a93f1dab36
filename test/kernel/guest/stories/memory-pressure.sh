# A machine with little memory, all of it in use.
. "$(dirname "$0")/lib.sh"

MiB=2048 # sectors

# An ext4 of 400 MiB on o; the disk is larger than memory.
mounted() {
	slice o-lower $((400 * MiB))
	origin o /dev/mapper/o-lower
	mkfs.ext4 -q -E nodiscard,lazy_itable_init=0 -J size=16 /dev/mapper/o
	mkdir "$T/mnt"
	mount /dev/mapper/o "$T/mnt"
	defer "umount $T/mnt"
	dd if=/dev/urandom of="$T/mnt/old" bs=1M count=96 status=none
	sync -f "$T/mnt"
	sum=$(sha256sum <"$T/mnt/old")
}

# Dirty pages without end, over what the backup has still to copy.
dirty() {
	while [ ! -e "$T/enough" ]; do
		dd if=/dev/zero of="$T/mnt/old" bs=1M count=96 conv=notrunc status=none
		dd if=/dev/zero of="$T/mnt/new" bs=1M count=160 status=none
		rm "$T/mnt/new"
	done
}

# Takes most of the memory that can be had.
hog() {
	local bytes
	bytes=$(awk '/MemAvailable/ { print int($2 * 1024 * 0.6) }' /proc/meminfo)
	# tmpfs without swap: nobody can take it back
	mkdir "$T/hog"
	mount -t tmpfs -o size=100% tmpfs "$T/hog"
	defer "umount $T/hog"
	head -c "$bytes" /dev/zero >"$T/hog/file"
}

target() {
	table target <<<"0 $((400 * MiB)) linear $DISK $((400 * MiB))"
	ln -s /dev/mapper/target "$T/o.img"
}

image_is_good() {
	e2fsck -fn /dev/mapper/target
	mkdir "$T/back"
	mount -o ro,noload /dev/mapper/target "$T/back"
	defer "umount $T/back"
	equal 'the old file' "$(sha256sum <"$T/back/old")" "$sum"
}

dirty_cache() {
	mounted
	target
	start_backup o --slots 16 --on-full hold
	dirty &
	defer "end_process $!"
	hog
	end_backup
	touch "$T/enough"
	wait
	sync -f "$T/mnt"
	image_is_good
}
it 'with dirty pages without end: the backup comes to a good end' dirty_cache

# With a full page cache, START freezes and drains, again and again.
many_starts() {
	local i
	mounted
	target
	dirty &
	defer "end_process $!"
	hog
	for i in 1 2 3 4; do
		start_backup o --list 0:64M --slots 8
		end_backup
	done
	touch "$T/enough"
	wait
	umount "$T/mnt"
	e2fsck -fn /dev/mapper/o
	mount /dev/mapper/o "$T/mnt"
}
it 'with dirty pages without end: sessions start and end' many_starts

killed() {
	mounted
	target
	dirty &
	defer "end_process $!"
	hog
	start_backup o --slots 4 --stop-after 40 --on-full hold
	sleep 1
	kill -KILL "$BACKUP"
	wait "$BACKUP" || true
	until_true 10 is_state o idle
	touch "$T/enough"
	wait
	umount "$T/mnt"
	e2fsck -fn /dev/mapper/o
	mount /dev/mapper/o "$T/mnt"
}
it 'with writers held in the midst of write-back: a kill lets them all go' killed
