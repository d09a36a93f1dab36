# Devices that fail: under the origin, and under what the backup is written to.
. "$(dirname "$0")/lib.sh"

MiB=2048 # sectors

# try_put NAME KIND OFFSET LENGTH: prints the error's name, or nothing; a failed write's sectors are unknown then.
try_put() {
	put "$@" | sed -n 's/.*"error": "\([A-Z]*\)".*/\1/p'
}

# The second MiB of four cannot be read or written.
error_segment() {
	table o-lower <<-EOT
		0 2048 linear $DISK 0
		2048 2048 error
		4096 4096 linear $DISK 4096
	EOT
	origin o /dev/mapper/o-lower
}

broken_lower() {
	table o-lower <<<"0 $((4 * MiB)) linear $DISK 0"
	origin o /dev/mapper/o-lower
	stamp-tool fill /dev/mapper/o "$T/o.map"
	remember o
	remove_device o
	remove_device o-lower
	error_segment
	start_backup o --no-sweep --on-full hold
	equal 'error of a write to blocks that cannot be read' "$(try_put o write 1088K 128K)" EIO
	equal 'error of a write beside them' "$(try_put o write 2048K 64K)" ''
	# from a good block into two bad ones
	equal 'error of a write to both' "$(try_put o write 960K 192K)" EIO
	end_backup 4
	equal 'invalid by capture' "$(reported o invalid)" 3
	equal 'invalid by the sweep' "$(reported o unreadable)" 13
	holds "$T/o.img" "$T/o.then" --list 0:1M --list 2M:2M
	# the writes were judged by the device alone
	holds /dev/mapper/o "$T/o.map" --list 0:960K --list 2M:2M
}
it 'marks blocks invalid that cannot be read, leaves the writes to the device, and finishes' broken_lower

# A SCSI disk with a medium error reads badly and writes well.
medium_error() {
	modprobe -a sd_mod 2>/dev/null || true
	modprobe scsi_debug dev_size_mb=16 sector_size=512 opts=2 medium_error_start=6500 medium_error_count=10 delay=0
	defer 'until_true 10 rmmod scsi_debug'
	until_true 20 scsi_disk
	# filled through a device that is not asked to read
	origin o "$SCSI_DISK"
	stamp-tool fill /dev/mapper/o "$T/o.map"
	remember o
	start_backup o --no-sweep
	equal 'error of a write to a block that cannot be read' "$(try_put o write 3250K 4K)" ''
	equal 'error of a second' "$(try_put o write 3200K 8K)" ''
	equal captured "$(counter o 4)" 0
	end_backup 4
	equal invalid "$(reported o invalid)" 1
	equal unreadable "$(reported o unreadable)" 0
	holds "$T/o.img" "$T/o.then" --list 0:3200K --list 3264K:$((16384 - 3264))K
	echo 0 >/sys/bus/pseudo/drivers/scsi_debug/opts
	holds /dev/mapper/o "$T/o.map"
	remove_device o
}
scsi_disk() {
	local disk
	for disk in /sys/block/sd*; do
		[ -e "$disk/device/model" ] && grep -q scsi_debug "$disk/device/model" || continue
		SCSI_DISK=/dev/$(basename "$disk")
		[ -b "$SCSI_DISK" ] && return
	done
	return 1
}
it 'marks a block invalid that can be written but not read, and the write succeeds' medium_error

# The device is away for a second, and comes back.
flakey() {
	modprobe dm-flakey
	table o-lower <<<"0 $((8 * MiB)) linear $DISK 0"
	origin o /dev/mapper/o-lower
	stamp-tool fill /dev/mapper/o "$T/o.map"
	remember o
	start_backup o --no-sweep
	put o write 0 64K
	dmsetup suspend --nolockfs o-lower
	dmsetup load o-lower --table "0 $((8 * MiB)) flakey $DISK 0 0 60"
	dmsetup resume o-lower
	equal 'error while it is away' "$(try_put o write 1M 128K)" EIO
	equal 'error of zeroes while it is away' "$(try_put o zeroout 2M 64K)" EIO
	dmsetup suspend --nolockfs --noflush o-lower
	dmsetup load o-lower --table "0 $((8 * MiB)) linear $DISK 0"
	dmsetup resume o-lower
	equal 'error when it is back' "$(try_put o write 1M 128K)" ''
	put o write 2M 64K
	put o write 3M 64K
	end_backup 4
	equal invalid "$(reported o invalid)" 3
	equal unreadable "$(reported o unreadable)" 0
	holds "$T/o.img" "$T/o.then" --list 0:1M --list 1152K:896K --list 2112K:6080K
	holds /dev/mapper/o "$T/o.map"
}
it 'goes on when the device was away and is back' flakey

pulled_out() {
	stamped o $((8 * MiB))
	start_backup o --no-sweep
	put o write 0 64K
	keep_open /dev/mapper/o
	# everything fails from here on
	dmsetup suspend --nolockfs o-lower
	dmsetup load o-lower --table "0 $((8 * MiB)) error"
	dmsetup resume o-lower
	equal error "$(try_put o write 1M 4K)" EIO
	kill -USR1 "$BACKUP"
	end_backup 4
	equal unreadable "$(reported o unreadable)" 126
	let_go
}
it 'comes to an end when the device is pulled out' pulled_out

bad_target() {
	stamped o $((8 * MiB))
	table target <<-EOT
		0 $((4 * MiB)) linear $DISK $((16 * MiB))
		$((4 * MiB)) $((4 * MiB)) error
	EOT
	churn o --kinds write,zeroout,dsync
	rm -f "$T/o.img"
	ln -s /dev/mapper/target "$T/o.img"
	start_backup o --slots 4 --on-full hold --hold-timeout 60000
	end_backup 3
	equal error "$(reported o error)" EIO
	equal reason "$(reported o reason)" 1
	sleep 0.2
	end_churn
	holds /dev/mapper/o "$T/o.map"
}
it 'breaks when its target fails, and held writes go on' bad_target

full_target() {
	stamped o $((8 * MiB))
	mkdir "$T/small"
	mount -t tmpfs -o size=4m tmpfs "$T/small"
	defer "umount $T/small"
	ln -s "$T/small/o.img" "$T/o.img"
	churn o --kinds write
	start_backup o --slots 4
	end_backup 3
	equal error "$(reported o error)" ENOSPC
	end_churn
	holds /dev/mapper/o "$T/o.map"
}
it 'breaks when its target is full' full_target

slow_target() {
	modprobe dm-delay
	stamped o $((8 * MiB))
	table target <<<"0 $((8 * MiB)) delay $DISK $((16 * MiB)) 0 $DISK $((16 * MiB)) 15"
	ln -s /dev/mapper/target "$T/o.img"
	remember o
	start_backup o --no-sweep --slots 3
	churn o --kinds write,dsync,zeroout,discard --threads 8
	until_true 30 has_captured o 10
	kill -USR1 "$BACKUP" || true # it may be done
	until_true 90 is_state o idle
	end_churn
	end_backup
	at_least held "$(reported o held)" 1
	holds /dev/mapper/target "$T/o.then"
	holds /dev/mapper/o "$T/o.map"
}
it 'gives a good backup on a slow target, straight from the slots by direct I/O' slow_target
