# dm-dust, which only the debug kernel has.
. "$(dirname "$0")/lib.sh"

MiB=2048 # sectors

dust() {
	local block
	modprobe dm-dust
	slice low $((8 * MiB))
	stamp-tool fill /dev/mapper/low "$T/o.map"
	remember o
	table o-lower <<<"0 $((8 * MiB)) dust /dev/mapper/low 0 512"
	for block in 4096 4100 9000; do dmsetup message o-lower 0 addbadblock $block; done
	dmsetup message o-lower 0 enable
	origin o /dev/mapper/o-lower
	start_backup o --no-sweep
	# a write repairs a bad block, as a disk does; the block around it is invalid all the same
	put o write 2M 512
	put o write 3M 4K
	end_backup 4
	equal invalid "$(reported o invalid)" 1
	equal unreadable "$(reported o unreadable)" 1
	holds "$T/o.img" "$T/o.then" --list 0:2M --list 2112K:2304K --list 4544K:3648K
	holds /dev/mapper/low "$T/o.map"
}
it 'survives bad blocks that a write repairs' dust
