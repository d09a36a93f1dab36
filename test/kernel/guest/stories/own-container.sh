# SPDX-License-Identifier: MIT
# A container file on the file system that is being backed up, as an
# administrator has it with one disk only. Nothing of it may pass the driver:
# the target is slow, memory is short, and what is written to the file system
# meanwhile spills to that file. Disks: vda for the origin, vdb for the backup,
# vdc to restore to. Runs in the project's folder.
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

LIVE=
MIB=2048 # sectors
FLOOD=$((160 << 20))

# documents write|check FOLDER EDITION [FIRST LAST [GAP]]
documents() {
	file-tool "$1" "$2" "${4:-1}" "${5:-30}" 300000 "document #, edition $3" "${@:6}"
}

unmount() {
	! mountpoint -q "$1" || umount "$1"
}

# new_origin KIND MEBIBYTES [MOUNT-OPTION...]: mounted at $LIVE; it does not begin where its lower device does.
new_origin() {
	modprobe -q "$1" || true
	slice disk $((($2 + 3) * MIB))
	origin data /dev/mapper/disk $((3 * MIB))
	# the disk may still hold the file system of the test before
	wipefs -qa /dev/mapper/data
	"mkfs.$1" -q /dev/mapper/data
	LIVE=$T/live
	mkdir "$LIVE"
	mount "${@:3}" /dev/mapper/data "$LIVE"
	defer unmount "$LIVE"
}

# Each write of 64 KiB to the target takes 20 ms and more.
new_slow_target() {
	modprobe dm-delay
	table slow <<<"0 $(blockdev --getsz /dev/vdb) delay /dev/vdb 0 0 /dev/vdb 0 20"
	wipefs -qa /dev/mapper/slow
	mkfs.ext4 -q /dev/mapper/slow
	mkdir "$T/backup"
	mount -o sync /dev/mapper/slow "$T/backup"
	defer unmount "$T/backup"
}

# Documents between which there are gaps, so that the container lies in pieces.
write_documents() {
	documents write "$LIVE" first 1 30 700000
	sync -f "$LIVE"
	rm "$LIVE"/gap-*
	sync -f "$LIVE"
}

# begin_backup FOLDER [RATE]: with memory for 16 blocks, a container on the origin, and
# a sweep that leaves time to write.
begin_backup() {
	: >"$T/events"
	snapbak backup /dev/mapper/data "$1" --blocks all --container memory:1M \
		--container "file:$LIVE/container:24M" --hold-timeout 10m --rate "${2:-8M}" --json >"$T/events" 2>"$T/words" &
	BACKUP=$!
	defer "end_process $BACKUP"
	until_true 120 has_started
}

has_started() {
	kill -0 "$BACKUP" 2>/dev/null || fail "it ended before it started: $(tail -n 2 "$T/events" "$T/words")"
	has "$T/events" '"event":"started"'
}

is_pinned() {
	lsattr "$1" | grep -q '^-*i'
}

# check KIND DEVICE
check() {
	if [ "$1" = xfs ]; then
		# its log is not empty, as after any freeze: a mount replays it
		mkdir -p "$T/replay"
		mount -o nouuid "$2" "$T/replay"
		umount "$T/replay"
		xfs_repair -n "$2"
	else
		e2fsck -fn "$2"
	fi
}

spills() {
	local kind=$1
	new_origin "$kind" "$2"
	new_slow_target
	write_documents
	begin_backup "$T/backup/b" "$3"
	is_pinned "$LIVE/container" || fail "the container is not immutable"
	refused rm -f "$LIVE/container" 2>/dev/null
	documents write "$LIVE" second
	sync -f "$LIVE" # all at once: faster than the target takes it
	wait "$BACKUP" || fail "exit status $?: $(tail -n 2 "$T/events" "$T/words")"
	tail -n 1 "$T/events" | grep -q '"state":"complete"'
	at_least "blocks that spilled" "$(tail -n 1 "$T/events" | sed 's/.*"spilledBlocks":\([0-9]*\).*/\1/')" 20
	refused grep -q '"lost":true' "$T/events"
	refused test -e "$LIVE/container"

	# the live file system is whole, and has what was written last
	umount "$LIVE"
	check "$kind" /dev/mapper/data
	mount /dev/mapper/data "$LIVE"
	documents check "$LIVE" second

	# the backup is the start instant; the container is in it by name only
	snapbak restore "$T/backup/b" /dev/vdc
	check "$kind" /dev/vdc
	mkdir "$T/restored"
	mount -o "$([ "$kind" = xfs ] && echo nouuid || echo defaults)" /dev/vdc "$T/restored"
	defer unmount "$T/restored"
	documents check "$T/restored" first
	is_pinned "$T/restored/container"
	chattr -i "$T/restored/container"
	rm "$T/restored/container"
	umount "$T/restored"
	check "$kind" /dev/vdc
	wipefs -qa /dev/vdc
}

spills_on_ext4() { spills ext4 72 8M; }
spills_on_xfs() { spills xfs 330 16M; } # mkfs.xfs refuses less than 300 MB

# Dirty pages fill the memory: each has to be captured before it can be written and freed, and what is
# captured ends in other dirty pages, the target's.
pressure() {
	local ratio
	new_origin ext4 320
	mkfs.ext4 -qF /dev/vdb
	mkdir "$T/backup"
	mount /dev/vdb "$T/backup"
	defer unmount "$T/backup"
	write_documents
	yes "half of the machine's memory" | head -c $FLOOD >"$LIVE/flood" || true
	sync -f "$LIVE"
	for ratio in dirty_ratio dirty_background_ratio; do
		defer "sysctl -qw vm.$ratio=$(sysctl -n vm.$ratio)"
		sysctl -qw vm.$ratio=80
	done
	begin_backup "$T/backup/b" 16M
	head -c $FLOOD /dev/zero | dd of="$LIVE/flood" bs=1M conv=notrunc status=none
	documents write "$LIVE" second
	sync -f "$LIVE"
	wait "$BACKUP" || fail "exit status $?: $(tail -n 2 "$T/events" "$T/words")"
	at_least "blocks that spilled" "$(tail -n 1 "$T/events" | sed 's/.*"spilledBlocks":\([0-9]*\).*/\1/')" 20
	umount "$LIVE"
	e2fsck -fn /dev/mapper/data
	e2fsck -fn "$T/backup/b/data.img"
	mount /dev/mapper/data "$LIVE"
	cmp -n $FLOOD "$LIVE/flood" /dev/zero
	documents check "$LIVE" second
}

killed() {
	new_origin ext4 120
	new_slow_target
	write_documents
	begin_backup "$T/backup/killed"
	documents write "$LIVE" second 1 1
	sync -f "$LIVE"
	kill -KILL "$BACKUP"
	wait "$BACKUP" || true
	# held writes went on, and whatever comes goes through
	documents write "$LIVE" second 2 2
	sync -f "$LIVE"
	is_pinned "$LIVE/container" || fail "nothing was left, so there is nothing to prove here"
	begin_backup "$T/backup/next" 32M
	documents write "$LIVE" second 3 3
	sync -f "$LIVE"
	wait "$BACKUP" || fail "exit status $?: $(tail -n 2 "$T/events" "$T/words")"
	refused test -e "$LIVE/container"
	umount "$LIVE"
	e2fsck -fn /dev/mapper/data
}

# not_here WORDS: the backup is refused, says so, and leaves nothing.
not_here() {
	mkdir -p "$T/backup"
	refused snapbak backup /dev/mapper/data "$T/backup/b" --container "file:$LIVE/container:24M" 2>"$T/words"
	grep -q "$1" "$T/words" || fail "it says: $(cat "$T/words")"
	refused test -e "$LIVE/container"
	refused test -e "$T/backup/b"
	equal "the state of the origin" "$(state data)" idle
}

moving() {
	new_origin btrfs 256
	not_here "btrfs may move its data"
}

journalled() {
	new_origin ext4 120 -o data=journal
	not_here "whose journal holds data, too"
}

journalled_file() {
	new_origin ext4 120
	mkdir "$LIVE/folder"
	chattr +j "$LIVE/folder"
	LIVE=$LIVE/folder
	not_here "has its data written to the journal"
}

it 'takes what a slow target leaves, on ext4, and is not in the backup' spills_on_ext4
it 'does so on xfs' spills_on_xfs
it 'does not keep writes from freeing memory' pressure
it 'is left by a killed process, and removed by the next backup' killed
it 'is refused on btrfs' moving
it 'is refused where the journal holds data' journalled
it 'is refused where the journal holds the data of that file' journalled_file
