# SPDX-License-Identifier: MIT
# LVM at work on a volume that is attached: it gives the volume a table of its
# own then. The volume must live through it, and the rest must go. Disks: vda
# and vdb, of 200 MiB. Runs in the project's folder.
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
source "$(dirname "${BASH_SOURCE[0]}")/lvm.sh"
source "$(dirname "${BASH_SOURCE[0]}")/attach-lib.sh"
DISTANCE=100

new_volume() {
	vgcreate -q vg /dev/vda /dev/vdb
	defer vgremove -qff vg
	lvcreate -q -Wn "$@" -n data vg
	mounted ext4 /dev/vg/data
	begin_files
}

attached() {
	equal 'the target' "$(target_of vg-data)" snapbak
	equal 'the target of the lower device' "$(target_of vg-data-snapbak)" "${1:-linear}"
}

by_its_name() {
	new_volume -L "${DISTANCE}M"
	snapbak attach /dev/vg/data
	attached
	snapbak detach /dev/vg/data
	as_it_was vg-data linear
	end_files ext4 /dev/vg/data
}

on_stripes() {
	new_volume -L "${DISTANCE}M" -i 2
	snapbak attach /dev/vg/data
	attached striped
	snapbak detach /dev/vg/data
	as_it_was vg-data striped
	end_files ext4 /dev/vg/data
}

shown() {
	new_volume -L "${DISTANCE}M"
	snapbak attach /dev/vg/data
	lvs vg/data
	equal 'what lvs says' "$(lvs --noheadings -o lv_name,lv_active vg 2>"$T/warnings" | tr -s ' ')" ' data active'
	equal 'what pvs says' "$(pvs --noheadings -o pv_name | tr -d ' ' | sort | tr '\n' ' ')" '/dev/vda /dev/vdb '
	attached
	snapbak detach /dev/vg/data
}

# replaced COMMAND...: which undoes the attachment; the volume is whole, and can be attached again at once.
replaced() {
	snapbak attach /dev/vg/data
	"$@"
	goes_on
	equal 'the target' "$(target_of vg-data)" linear
	snapbak attach /dev/vg/data
	attached
	"$@"
	snapbak detach /dev/vg/data --json | grep -q '"outcome":"cleaned"'
	as_it_was vg-data linear
	end_files ext4 /dev/vg/data
}

extend() { lvextend -q -L +8M vg/data; }
refresh() { lvchange --refresh vg/data; }

extended() {
	new_volume -L "${DISTANCE}M"
	replaced extend
	equal 'the size' "$(blockdev --getsz /dev/vg/data)" $(((DISTANCE + 16) * 2048))
}

refreshed() {
	new_volume -L "${DISTANCE}M"
	replaced refresh
}

renamed() {
	new_volume -L "${DISTANCE}M"
	snapbak attach /dev/vg/data
	lvrename -q vg data other
	goes_on
	snapbak detach /dev/vg/other --json | grep -q '"outcome":"cleaned"'
	as_it_was vg-other linear
	refused dmsetup info vg-data-snapbak
	end_files ext4 /dev/vg/other
}

moved() {
	modprobe dm-mirror
	new_volume -L "${DISTANCE}M"
	snapbak attach /dev/vg/data
	pvmove -q -i 1 -n vg/data /dev/vda /dev/vdb
	goes_on
	snapbak detach /dev/vg/data
	as_it_was vg-data linear
	end_files ext4 /dev/vg/data
}

with_snapshot() {
	modprobe dm-snapshot
	new_volume -L "${DISTANCE}M"
	snapbak attach /dev/vg/data
	lvcreate -q -s -n snap -L 20M vg/data
	goes_on
	says 'target "snapshot-origin"' snapbak attach /dev/vg/data
	snapbak detach /dev/vg/data
	# the way that the error tells: the device beneath
	snapbak attach /dev/mapper/vg-data-real
	goes_on
	equal 'the target of the device beneath' "$(target_of vg-data-real)" snapbak
	snapbak detach /dev/mapper/vg-data-real
	as_it_was vg-data-real linear
	lvremove -qfy vg/snap
	end_files ext4 /dev/vg/data
}

# in the midst of a backup
broken() {
	new_volume -L "${DISTANCE}M"
	snapbak attach /dev/vg/data
	start_backup vg-data --no-sweep
	lvextend -q -L +8M vg/data
	goes_on
	end_backup 3
	equal 'the reason' "$(reported vg-data reason)" 5 # the origin is gone
	snapbak detach /dev/vg/data
	as_it_was vg-data linear
	end_files ext4 /dev/vg/data
}

deactivated() {
	new_volume -L "${DISTANCE}M"
	snapbak attach /dev/vg/data
	refused lvchange -an vg/data
	attached
	end_files ext4 /dev/vg/data
	lvchange -an vg/data
	equal 'what is left' "$(dmsetup ls)" 'No devices found'
	says 'no such device' snapbak detach /dev/vg/data
	lvchange -ay vg/data
	as_it_was vg-data linear
}

removed() {
	new_volume -L "${DISTANCE}M"
	snapbak attach /dev/vg/data
	end_files ext4 /dev/vg/data
	lvremove -qfy vg/data
	equal 'what is left' "$(dmsetup ls)" 'No devices found'
}

on_mirror() {
	modprobe dm-mirror
	vgcreate -q vg /dev/vda /dev/vdb
	defer vgremove -qff vg
	lvcreate -q -Wn --nosync -y --type mirror --mirrorlog core -m 1 -L 20M -n data vg
	says 'target "mirror"' snapbak attach /dev/vg/data
	# the way that the error tells: above it
	snapbak attach --create above /dev/vg/data
	defer '! [ -e /dev/mapper/above ] || remove_device above'
	mounted ext4 /dev/mapper/above
	begin_files
	end_files ext4 /dev/mapper/above
	snapbak detach /dev/mapper/above --json | grep -q '"outcome":"removed"'
}

it 'takes a volume by its name in LVM' by_its_name
it 'takes a striped volume' on_stripes
it 'leaves lvs and pvs at work' shown
it 'is undone by lvextend, and the volume has its new size' extended
it 'is undone by lvchange --refresh' refreshed
it 'is undone by lvrename, and cleared up by the new name' renamed
it 'is undone by pvmove' moved
it 'is undone by a snapshot, whose origin is attached beneath' with_snapshot
it 'breaks the backup that lvextend comes upon, and nothing else' broken
it 'goes with the volume when that is deactivated' deactivated
it 'goes with the volume when that is removed' removed
it 'is put above a mirrored volume' on_mirror
