# SPDX-License-Identifier: MIT
# Attaching where udev runs, as on any real machine: it makes the nodes and links,
# and is waited for. Disks: vda, vdb. Runs in the project's folder.
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
source "$(dirname "${BASH_SOURCE[0]}")/lvm.sh"
source "$(dirname "${BASH_SOURCE[0]}")/attach-lib.sh"
MIB=2048 # sectors

unset DM_DISABLE_UDEV
export SYSTEMD_IGNORE_CHROOT=1
sed -i 's/udev_sync = 0 udev_rules = 0/udev_sync = 1 udev_rules = 1/' "$LVM_SYSTEM_DIR/lvm.conf"
/lib/systemd/systemd-udevd --daemon || exit 1

settled() {
	udevadm settle --timeout=60
	equal 'cookies that nobody took' "$(dmsetup udevcookies | wc -l)" 1 # the heading
}

# links_of NODE: what leads to it, sorted.
links_of() {
	find /dev/disk /dev/mapper /dev/vg -lname "*/$(basename "$(realpath "$1")")" 2>/dev/null | sort
}

volume() {
	# not from the start of the disk: that would bear the same label, and the link leads to the one of the two
	# that udev has looked at last
	table data <<<"0 $((64 * MIB)) linear /dev/vda $MIB"
	wipefs -qa /dev/mapper/data
	mkfs.ext4 -q -L of-the-story /dev/mapper/data
	# udev hears of a device that was written to by inotify: no event waits yet, for settle to wait for
	until_true 30 leads_to /dev/disk/by-label/of-the-story /dev/mapper/data
	settled
}

# leads_to LINK NODE
leads_to() {
	[ "$(realpath -q "$1")" = "$(realpath "$2")" ]
}

found_once() {
	local links
	volume
	links=$(links_of /dev/mapper/data)
	grep -qx /dev/disk/by-label/of-the-story <<<"$links"
	snapbak attach /dev/mapper/data
	settled
	equal 'links to the device' "$(links_of /dev/mapper/data)" "$links"
	equal 'links to the lower device' "$(links_of /dev/mapper/data-snapbak)" /dev/mapper/data-snapbak
	udevadm trigger --action=change --settle
	equal 'links to the device' "$(links_of /dev/mapper/data)" "$links"
	equal 'links to the lower device' "$(links_of /dev/mapper/data-snapbak)" /dev/mapper/data-snapbak
	snapbak detach /dev/mapper/data
	settled
	equal 'links to the device' "$(links_of /dev/mapper/data)" "$links"
	as_it_was data linear
	refused test -e /dev/mapper/data-snapbak
}

undone() {
	local links
	volume
	links=$(links_of /dev/mapper/data)
	attach-tool native '{"origin":"data","lowerName":"data-snapbak","target":"linear","offset":1099511627776}' |
		grep '"errno":-22,"step":"swap","undoErrno":0'
	settled
	equal 'links to the device' "$(links_of /dev/mapper/data)" "$links"
	as_it_was data linear
}

made() {
	wipefs -qa /dev/vda
	mkfs.ext4 -q -L of-the-story /dev/vda
	snapbak attach --create made /dev/vda
	defer '! [ -e /dev/mapper/made ] || remove_device made'
	settled
	# not by its label, which the disk bears, too
	equal 'the device by its name' "$(realpath /dev/disk/by-id/dm-name-made)" "$(realpath /dev/mapper/made)"
	udevadm info --query=property --name=/dev/mapper/made >"$T/properties"
	grep -qx ID_FS_LABEL=of-the-story "$T/properties"
	snapbak detach /dev/mapper/made
	settled
	refused test -e /dev/mapper/made
}

lvm() {
	wipefs -qa /dev/vda
	vgcreate -q vg /dev/vda /dev/vdb
	defer vgremove -qff vg
	lvcreate -q -y -Wn -L 52M -n data vg
	mounted ext4 /dev/vg/data
	begin_files
	snapbak attach /dev/vg/data
	lvextend -q -L +8M vg/data
	snapbak attach /dev/vg/data
	goes_on
	equal 'the device' "$(realpath /dev/vg/data)" "$(realpath /dev/mapper/vg-data)"
	end_files ext4 /dev/vg/data
	lvchange -an vg/data
	settled
	equal 'what is left' "$(dmsetup ls)" 'No devices found'
	refused test -e /dev/vg/data
}

it 'lets udev find a volume once, by the links that it had' found_once
it 'leaves the links alone when the exchange fails' undone
it 'lets udev find a device that it makes' made
it 'lets LVM and udev work together as ever' lvm
