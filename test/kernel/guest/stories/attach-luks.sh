# SPDX-License-Identifier: MIT
# The driver under LUKS volumes: keys go with the table, and nobody takes the
# lower device for the volume. Disk: vda. Runs in the project's folder.
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
source "$(dirname "${BASH_SOURCE[0]}")/lvm.sh"
source "$(dirname "${BASH_SOURCE[0]}")/attach-lib.sh"
# the kernel of this machine cannot load modules by itself
modprobe -a dm-crypt xts ecb aes_generic algif_skcipher || exit 1

# new_luks TYPE [OPTION-OF-OPEN...]: /dev/mapper/data
new_luks() {
	head -c 64 /dev/urandom >"$T/key"
	cryptsetup luksFormat -q --type "$1" --pbkdf pbkdf2 --pbkdf-force-iterations 1000 /dev/vda "$T/key"
	cryptsetup open "${@:2}" --key-file "$T/key" /dev/vda data
	defer cryptsetup close data
}

# attaches_and_detaches: under ext4 that is written to.
attaches_and_detaches() {
	mounted ext4 /dev/mapper/data
	begin_files
	snapbak attach /dev/mapper/data
	goes_on
	equal 'the target of the device' "$(target_of data)" snapbak
	equal 'the target of the lower device' "$(target_of data-snapbak)" crypt
	snapbak detach /dev/mapper/data
	goes_on
	as_it_was data crypt
	end_files ext4 /dev/mapper/data
}

luks1() {
	new_luks luks1
	attaches_and_detaches
}

luks2_without_keyring() {
	new_luks luks2 --disable-keyring
	attaches_and_detaches
}

# As any LUKS2 volume that was opened in the usual way; the first advice of the error.
refreshed() {
	new_luks luks2
	mounted ext4 /dev/mapper/data
	says 'cryptsetup refresh --disable-keyring data' snapbak attach /dev/mapper/data
	as_it_was data crypt
	cryptsetup refresh --disable-keyring --key-file "$T/key" data
	snapbak attach /dev/mapper/data
	snapbak detach /dev/mapper/data
	as_it_was data crypt
}

# The other way: the key is put where the table says.
from_a_keyring() {
	local description key
	new_luks luks2
	description=$(dmsetup table data | grep -o 'cryptsetup:[^ ]*')
	cryptsetup luksDump -q --dump-volume-key --volume-key-file "$T/volume-key" --key-file "$T/key" /dev/vda >"$T/dump"
	key=$(keyctl padd logon "$description" @u <"$T/volume-key")
	mounted ext4 /dev/mapper/data
	snapbak attach /dev/mapper/data
	keyctl unlink "$key" @u
	says 'keyctl padd' snapbak detach /dev/mapper/data
	equal 'the target' "$(target_of data)" snapbak
	touch "$LIVE/x"
	keyctl padd logon "$description" @u <"$T/volume-key" >"$T/id"
	snapbak detach /dev/mapper/data
	as_it_was data crypt
	keyctl unlink "$(cat "$T/id")" @u
}

# The keys may not outlive the volume.
not_closed() {
	new_luks luks2 --disable-keyring
	snapbak attach /dev/mapper/data
	refused cryptsetup close data
	refused cryptsetup status data
	snapbak detach /dev/mapper/data
}

# The volume is a physical volume of LVM; its content must be found once.
found_once() {
	local everything='devices { filter = [ "a|.*|" ] }'
	new_luks luks2 --disable-keyring
	pvcreate -q --config "$everything" /dev/mapper/data
	vgcreate -q --config "$everything" nested /dev/mapper/data
	lvcreate -q --config "$everything" -Wn -L 20M -n lv nested
	defer "vgremove -qff --config '$everything' nested"
	snapbak attach /dev/mapper/data
	pvs --config "$everything" --noheadings -o pv_name 2>&1 | tr -d ' ' | tee "$T/pvs"
	equal 'what pvs says' "$(cat "$T/pvs")" /dev/mapper/data
	lvextend -q --config "$everything" -L 24M nested/lv
	equal 'what blkid finds' "$(blkid -c /dev/null -t TYPE=LVM2_member -o device)" /dev/mapper/data
	snapbak detach /dev/mapper/data
	as_it_was data crypt
}

it 'takes LUKS1, its key and all, and gives it back' luks1
it 'takes LUKS2 with its key in dm-crypt' luks2_without_keyring
it 'says how to attach LUKS2 with its key in a keyring, and then does' refreshed
it 'takes the key from a keyring where it is there, and does not lose the volume where it is not' from_a_keyring
it 'keeps the volume from being closed, which would leave the key behind' not_closed
it 'hides the lower device from LVM and blkid' found_once
