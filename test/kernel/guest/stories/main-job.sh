# SPDX-License-Identifier: MIT
# The main job: a file system that is mounted and written to all the time;
# attach, backup, detach; restore; proof. As an administrator does it, with the
# command line. Disks: vda and vdb for the origin, vdc for the backup, vdd to
# restore to. Runs in the project's folder.
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
source "$(dirname "${BASH_SOURCE[0]}")/lvm.sh"

# documents write|check FOLDER EDITION
documents() {
	file-tool "$1" "$2" 1 20 200000 "document #, edition $3"
}

FILES=(60000 'file # of the story')

# new_volume linear|striped|luks MEBIBYTES: sets ORIGIN.
new_volume() {
	case $1 in
	luks)
		modprobe -a dm-crypt xts aes_generic
		table disk <<<"0 $(($2 * 2048)) linear /dev/vda 0"
		head -c 64 /dev/urandom >"$T/key"
		cryptsetup luksFormat -q --type luks2 --pbkdf pbkdf2 --pbkdf-force-iterations 1000 /dev/mapper/disk "$T/key"
		cryptsetup open --disable-keyring --key-file "$T/key" /dev/mapper/disk secret
		defer cryptsetup close secret
		ORIGIN=/dev/mapper/secret
		;;
	*)
		wipefs -qa /dev/vda /dev/vdb
		vgcreate -q vg /dev/vda /dev/vdb
		defer vgremove -qff vg
		if [ "$1" = striped ]; then
			lvcreate -q -Wn -i 2 -I 64k -L "$2M" -n data vg
		else
			lvcreate -q -Wn -L "$2M" -n data vg
		fi
		ORIGIN=/dev/mapper/vg-data
		;;
	esac
}

# new_file_system KIND DEVICE FOLDER
new_file_system() {
	modprobe -q "$1" || true
	"mkfs.$1" -q "$2"
	mkdir -p "$3"
	mount "$2" "$3"
	defer unmount "$3"
}

unmount() {
	! mountpoint -q "$1" || umount "$1"
}

write_with_fio() {
	exec fio --name=live --filename="$1" --size=8M --rw=randwrite --bs=4k --ioengine=psync --fdatasync=8 \
		--time_based --runtime=3600 --rate_iops=50 --output="$T/fio.json" --output-format=json
}

started() {
	kill -0 "$BACKUP" 2>/dev/null || fail "the backup ended before it started: $(cat "$T/events")"
	has "$T/events" '"event":"started"'
}

# check KIND DEVICE
check() {
	if [ "$1" = ext4 ]; then
		e2fsck -fn "$2"
	else
		# its log may hold unlinked files, as after a power cut: a mount replays it
		mkdir -p "$T/replay"
		mount -o nouuid "$2" "$T/replay"
		umount "$T/replay"
		xfs_repair -n "$2"
	fi
}

# lists_used KIND MEBIBYTES: what the file system used at the start instant was found, though it was mounted and
# written to, and is well below the whole.
lists_used() {
	local blocks listed
	blocks=$(grep -m 1 '"event":"blocks"' "$T/events")
	grep -q "\"what\":\"$1\",\"bytes\":[0-9]*,\"full\":false" <<<"$blocks" || fail "the used blocks are not known: $blocks"
	listed=$(grep -o '"listedBytes":[0-9]*' <<<"$blocks" | cut -d: -f2)
	at_most "percent of the origin that are listed" $((listed * 100 / ($2 << 20))) 70
}

main_job() {
	local kind=$1 live=$T/live rate=$4 writer fio wrote instant before=0 after=0 i begin durable
	new_volume "$2" "$3"
	new_file_system ext4 /dev/vdc "$T/backup"
	new_file_system "$kind" "$ORIGIN" "$live"
	mkdir "$live/documents" "$live/files"
	documents write "$live/documents" first
	sync -f "$live"
	: >"$T/files"
	file-tool stream "$live/files" "$T/files" "${FILES[@]}" &
	writer=$!
	defer "end_process $writer"
	write_with_fio "$live/fio.dat" &
	fio=$!
	defer "end_process $fio"
	until_true 30 test -s "$T/files"

	wrote=$(wc -l <"$T/files")
	snapbak attach "$ORIGIN"
	defer "! [ -e $ORIGIN-snapbak ] || snapbak detach --force $ORIGIN"
	snapbak backup "$ORIGIN" "$T/backup/b" --rate "$rate" --json >"$T/events" &
	BACKUP=$!
	defer "end_process $BACKUP"
	until_true 120 started
	# nothing that is written from here on may be in the backup
	documents write "$live/documents" second
	sync -f "$live"
	wait "$BACKUP" || fail "snapbak backup: exit status $?: $(tail -n 2 "$T/events")"
	snapbak detach "$ORIGIN"
	at_least "files written from attach to detach" $(($(wc -l <"$T/files") - wrote)) 10
	refused grep -q '"captured":0[,}]' <(tail -n 1 "$T/events")
	lists_used "$kind" "$3"

	kill -0 "$writer"
	kill -0 "$fio"
	kill -INT "$fio"
	wait "$fio" || true
	grep -q '"error" : 0,' "$T/fio.json"
	end_process "$writer" || true

	# the live file system went through all of it
	documents check "$live/documents" second
	file-tool check-log "$live/files" "$T/files" "${FILES[@]}"
	umount "$live"
	check "$kind" "$ORIGIN"

	snapbak restore --force "$T/backup/b" /dev/vdd
	check "$kind" /dev/vdd
	mkdir "$T/restored"
	mount -o ro /dev/vdd "$T/restored"
	defer unmount "$T/restored"
	# as they were at the start instant
	documents check "$T/restored/documents" first
	instant=$(date -d "$(grep -o -m 1 '"startedAt":"[^"]*"' "$T/events" | cut -d'"' -f4)" +%s%3N)
	while read -r i begin durable; do
		begin=$((${begin/./} / 1000)) durable=$((${durable/./} / 1000))
		if ((durable < instant)); then
			echo "$i" >>"$T/before"
			before=$((before + 1))
		elif ((begin > instant + 1)); then
			refused test -e "$T/restored/files/$i"
			after=$((after + 1))
		fi
	done <"$T/files"
	at_least "files from before the start instant" $before 1
	file-tool check-log "$T/restored/files" "$T/before" "${FILES[@]}"
	at_least "files from after it" $after 1
}

# counts FILE FILE: for ever, a number durably in the one, and only then in the other.
counts() {
	local n
	for ((n = 1; ; n++)); do
		echo $n 1<>"$1" && sync "$1" && echo $n 1<>"$2" && sync "$2" || exit 1
		echo $n >"$T/counted"
	done
}

is_counting() {
	[ "$(cat "$T/counted")" -gt "$1" ]
}

# while_counting FILE FILE ORIGIN ORIGIN: a backup of both into $T/b, on which one counts first and then on the other.
while_counting() {
	local counter
	echo 0 >"$T/counted"
	counts "$1" "$2" &
	counter=$!
	defer "end_process $counter"
	until_true 30 is_counting 3
	snapbak backup "$3" "$4" "$T/b" --rate 16M --json >"$T/events" &
	BACKUP=$!
	defer "end_process $BACKUP"
	until_true 120 started
	until_true 30 is_counting $(($(cat "$T/counted") + 2))
	wait "$BACKUP" || fail "snapbak backup: exit status $?: $(tail -n 2 "$T/events")"
	kill -0 "$counter"
	end_process "$counter" || true
	grep -q '"state": "complete"' "$T/b/manifest.json"
}

# of_one_instant FIRST SECOND: what was counted on the two.
of_one_instant() {
	at_least "what was counted on the first at the start instant" "$1" 3
	[ "$1" -lt "$(cat "$T/counted")" ] || fail "the start instant is not in the past"
	at_most "what was counted on the second, which comes after the first" "$2" "$1"
	at_most "what was counted on the first, which waits for the second" "$1" $(($2 + 1))
}

two_disks() {
	local name
	for name in data log; do
		slice $name-lower 65536 $([ $name = data ] || echo 65536)
		origin $name "/dev/mapper/$name-lower"
		new_file_system ext4 "/dev/mapper/$name" "$T/$name"
		echo 0 >"$T/$name/count"
	done
	while_counting "$T/data/count" "$T/log/count" /dev/mapper/data /dev/mapper/log
	of_one_instant "$(counted data)" "$(counted log)"
	snapbak restore "$T/b" "$T/log.restored" --disk log
	for name in data log; do check ext4 "$T/b/$name.img"; done
	cmp "$T/b/log.img" "$T/log.restored"
}

# counted NAME: the number in a disk's image.
counted() {
	debugfs -R 'cat count' "$T/b/$1.img" 2>/dev/null
}

two_drivers() {
	slice data-lower 32768
	origin data /dev/mapper/data-lower
	truncate -s 16M "$T/user.img"
	snapbak serve "$T/user.img" --socket "$T/user.nbd" --control "$T/user.control" &
	defer "end_process $!"
	until_true 60 test -S "$T/user.nbd"
	modprobe -q fuse || true
	mkdir "$T/fuse"
	nbdfuse "$T/fuse" "nbd+unix:///?socket=$T/user.nbd" &
	defer "end_process $!"
	defer fusermount3 -u "$T/fuse"
	until_true 60 test -e "$T/fuse/nbd"
	echo 0 1<>/dev/mapper/data
	echo 0 1<>"$T/fuse/nbd"
	while_counting /dev/mapper/data "$T/fuse/nbd" /dev/mapper/data "user=unix:$T/user.control"
	of_one_instant "$(head -n 1 "$T/b/data.img")" "$(head -n 1 "$T/b/user.img")"
}

clone() {
	local live=$T/live fio
	slice data-lower 131072
	origin data /dev/mapper/data-lower
	new_file_system ext4 /dev/mapper/data "$live"
	documents write "$live" first
	write_with_fio "$live/fio.dat" &
	fio=$!
	defer "end_process $fio"
	until_true 30 test -s "$live/fio.dat"
	sync -f "$live"
	: >"$T/events"
	snapbak backup /dev/mapper/data "$T/b" --clone-to "$T/clone.img" --clone-export "$T/clone.nbd" --rate 1M --json >"$T/events" &
	BACKUP=$!
	defer "end_process $BACKUP"
	until_true 120 has "$T/events" '"event":"clone"'
	documents write "$live" second
	sync -f "$live"
	# all of it, long before it has arrived
	nbdcopy "nbd+unix:///?socket=$T/clone.nbd" "$T/read.img"
	refused has "$T/events" '"event":"finished"'
	until_true 300 has "$T/events" '"event":"finished"'
	kill -0 "$fio"
	kill -TERM "$BACKUP"
	wait "$BACKUP" || fail "snapbak backup: exit status $?: $(tail -n 2 "$T/events")"
	cmp "$T/read.img" "$T/b/data.img"
	cmp "$T/clone.img" "$T/b/data.img"
	check ext4 "$T/clone.img"
	mkdir "$T/restored"
	modprobe -q loop || true
	mount -o loop,ro "$T/clone.img" "$T/restored"
	defer unmount "$T/restored"
	documents check "$T/restored" first
}

ext4_on_lvm() {
	# the program as it is installed, not as one file
	snapbak() { node dist/cli/main.js "$@"; }
	main_job ext4 linear 96 12M
}
# mkfs.xfs refuses less than 300 MB; fuse: its tools see the start instant by nbdfuse
xfs_on_lvm() {
	modprobe -q fuse || true
	main_job xfs linear 320 32M
}
ext4_on_luks() { main_job ext4 luks 96 12M; }
ext4_on_stripes() { main_job ext4 striped 96 12M; }

it 'attaches, backs up, detaches and restores ext4 on an LVM volume that is being written to' ext4_on_lvm
it 'does so with xfs' xfs_on_lvm
it 'does so with ext4 on LUKS' ext4_on_luks
it 'does so with ext4 on a striped volume' ext4_on_stripes
it 'backs up two mounted file systems as of one instant' two_disks
it 'backs up a disk of its own and one of the user driver as of one instant' two_drivers
it 'writes a clone of a mounted file system, which is read from the first second' clone
