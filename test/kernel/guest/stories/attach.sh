# SPDX-License-Identifier: MIT
# The driver comes and goes under devices in use. Disks: vda and vdb, of 500 MiB.
# Runs in the project's folder.
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
source "$(dirname "${BASH_SOURCE[0]}")/attach-lib.sh"

MIB=2048 # sectors
ROUNDS=${ROUNDS:-6}

# new_device linear|striped|segments|thin MEBIBYTES: /dev/mapper/data
new_device() {
	local n=$(($2 * MIB))
	case $1 in
	linear) table data <<<"0 $n linear /dev/vda 8" ;;
	striped) table data <<<"0 $n striped 2 128 /dev/vda 0 /dev/vdb 0" ;;
	segments)
		table data <<-TABLE
			0 $((20 * MIB)) linear /dev/vda 0
			$((20 * MIB)) $((n - 24 * MIB)) striped 2 128 /dev/vda $((40 * MIB)) /dev/vdb $((40 * MIB))
			$((n - 4 * MIB)) $((4 * MIB)) linear /dev/vdb 0
		TABLE
		;;
	thin)
		modprobe dm-thin-pool
		table pool-meta <<<"0 $((4 * MIB)) linear /dev/vdb 0"
		dd if=/dev/zero of=/dev/mapper/pool-meta bs=4096 count=1 conv=fsync status=none
		table pool <<<"0 $n thin-pool /dev/mapper/pool-meta /dev/vda 128 0"
		dmsetup message pool 0 'create_thin 0'
		table data <<<"0 $n thin /dev/mapper/pool 0"
		;;
	esac
}

# comes_and_goes FILE-SYSTEM DEVICE-KIND MEBIBYTES
comes_and_goes() {
	local before
	new_device "$2" "$3"
	before=$(dmsetup table data)
	mounted "$1" /dev/mapper/data
	begin_files
	attach-tool cycles /dev/mapper/data 12 | tee "$T/cycles"
	goes_on
	equal 'detached so often' "$(grep -c '^restored ' "$T/cycles")" 12
	equal 'the table' "$(dmsetup table data)" "$before"
	as_it_was data "$(target_of data)"
	end_files "$1" /dev/mapper/data
}

linear() { comes_and_goes ext4 linear 200; }
striped() { comes_and_goes ext4 striped 200; }
segments() { comes_and_goes xfs segments 330; }
thin() { comes_and_goes ext4 thin 200; }

tells() {
	new_device linear 64
	snapbak attach /dev/mapper/data >"$T/said"
	grep -q 'attached /dev/mapper/data, 64 MiB; writes stood still for [0-9.]* ms' "$T/said"
	equal 'the table of the device' "$(dmsetup table data | cut -d' ' -f1-3,5)" "0 $((64 * MIB)) snapbak 0"
	equal 'the table of the lower device' "$(dmsetup table data-snapbak)" "0 $((64 * MIB)) linear 254:0 8"
	says 'attached already' snapbak attach /dev/mapper/data
	says 'lower device of /dev/mapper/data' snapbak attach /dev/mapper/data-snapbak
	snapbak detach /dev/mapper/data-snapbak --json | grep -q '"outcome":"restored"'
	as_it_was data linear
	says 'not attached' snapbak detach /dev/mapper/data
}

read_ahead() {
	new_device linear 64
	blockdev --setra 4096 /dev/mapper/data
	attach-tool cycles /dev/mapper/data 1
	equal 'the read-ahead' "$(blockdev --getra /dev/mapper/data)" 4096
}

remembering() {
	modprobe dm-snapshot
	new_device linear 64
	table origin <<<"0 $((64 * MIB)) snapshot-origin /dev/mapper/data"
	says 'target "snapshot-origin"' snapbak attach /dev/mapper/origin
	as_it_was origin snapshot-origin
}

plain() {
	says 'attach --create NAME /dev/vda' snapbak attach /dev/vda
}

over_a_partition() {
	local made
	mkfs.ext4 -q /dev/vda
	mkdir "$T/old" "$T/live"
	mount /dev/vda "$T/old"
	defer unmount "$T/old"
	says 'in use: unmount it' snapbak attach --create made /dev/vda
	umount "$T/old"
	defer '! [ -e /dev/mapper/made ] || remove_device made'
	snapbak attach --create made /dev/vda
	equal 'the target' "$(target_of made)" snapbak
	mount /dev/mapper/made "$T/live"
	defer unmount "$T/live"
	LIVE=$T/live
	begin_files
	snapbak detach /dev/mapper/made --json | grep -q '"outcome":"linear"'
	goes_on
	snapbak attach /dev/mapper/made
	snapbak detach /dev/mapper/made
	as_it_was made linear
	end_files ext4 /dev/mapper/made
	remove_device made
	snapbak attach --create made /dev/vda
	made=$(snapbak detach /dev/mapper/made --json)
	grep -q '"outcome":"removed"' <<<"$made"
	refused dmsetup info made 2>/dev/null
}

# native PARTS: the addon's attach, which does not look before it leaps.
native() {
	attach-tool native "{\"origin\":\"data\",\"lowerName\":\"data-snapbak\",$1}" | tee "$T/outcome"
}

# undone ERRNO STEP
undone() {
	grep -q "\"errno\":-$1,\"step\":\"$2\",\"undoErrno\":0,\"undoStep\":\"\",\"suspended\":false" "$T/outcome"
	goes_on
	as_it_was data linear
}

undoes() {
	new_device linear 64
	mounted ext4 /dev/mapper/data
	begin_files
	native '"lowerName":"data"'
	undone 16 lower-create
	native '"target":"nonesuch"'
	undone 22 load
	# of dm-linear the kernel only finds out when the device is suspended already
	native '"target":"linear","offset":1099511627776'
	undone 22 swap
	end_files ext4 /dev/mapper/data
}

# As on a machine with its root file system on the device: nothing of the
# program may have to be read while the device stands still.
from_itself() {
	local app=$T/live/app library
	new_device linear 300
	mounted ext4 /dev/mapper/data
	mkdir -p "$app"/{build/Release,test/kernel/guest,node_modules,lib}
	cp -a dist package.json "$app"
	cp build/Release/snapbak.node "$app/build/Release"
	cp test/kernel/guest/attach-tool.mjs "$app/test/kernel/guest"
	cp -aL node_modules/{node-gyp-build,pretty-bytes} "$app/node_modules"
	cp "$(command -v node)" "$app"
	for library in devmapper udev selinux pcre2-8 stdc++ m c; do
		cp -L "$(ldconfig -p | sed -n "s/.*\blib$library\.so\.[0-9.]* .*x86-64.* => //p" | head -n 1)" "$app/lib"
	done
	begin_files
	from_app() {
		# out of the page cache, and nothing else: see free_mib
		vmtouch -qe "$app"
		LD_LIBRARY_PATH=$app/lib "$app/node" "$app/test/kernel/guest/attach-tool.mjs" "$@"
	}
	from_app cycles /dev/mapper/data 3
	from_app native '{"origin":"data","lowerName":"data-snapbak","target":"linear","offset":1099511627776}' |
		tee "$T/outcome"
	undone 22 swap
	end_files ext4 /dev/mapper/data
}

# Newer kernels count who froze a file system, older ones refuse a second freeze.
frozen() {
	new_device linear 64
	mounted ext4 /dev/mapper/data
	fsfreeze -f "$LIVE"
	defer "fsfreeze -u $LIVE 2>/dev/null || true"
	touch "$LIVE/x" & # must wait all the time
	if snapbak attach /dev/mapper/data >"$T/said" 2>&1; then
		snapbak detach /dev/mapper/data
	else
		grep -q 'nothing was changed' "$T/said" || fail "it says: $(cat "$T/said")"
	fi
	kill -0 $!
	as_it_was data linear
	fsfreeze -u "$LIVE"
	wait $!
	test -e "$LIVE/x"
}

killed() {
	local i killed=0 inside=0
	new_device linear 400 # nobody knows how long it takes, and how many files are written
	mounted ext4 /dev/mapper/data
	begin_files
	# as often as it takes to meet it between two states
	for ((i = 0; i < ROUNDS || (inside == 0 && i < 60); i++)); do
		: >"$T/tool"
		attach-tool for-ever /dev/mapper/data >>"$T/tool" &
		until_true 60 has "$T/tool" ready
		sleep "0.$((RANDOM % 3))$((RANDOM % 10))"
		kill -KILL $!
		wait $! || killed=$((killed + 1))
		goes_on
		[ "$(dmsetup ls | wc -l)" = 1 ] || inside=$((inside + 1))
		[ "$(dmsetup ls | wc -l)" = 1 ] || snapbak detach /dev/mapper/data
		as_it_was data linear
	done
	equal 'killed' "$killed" "$i"
	at_least 'killed in the midst of it' "$inside" 1
	end_files ext4 /dev/mapper/data
}

at_once() {
	local i won=0
	new_device linear 64
	mounted ext4 /dev/mapper/data
	begin_files
	for i in 1 2 3; do
		snapbak attach /dev/mapper/data >>"$T/said" 2>&1 &
	done
	for i in $(jobs -p); do
		[ "$i" = "$WRITER" ] || ! wait "$i" || won=$((won + 1))
	done
	at_most 'who attached' "$won" 1
	snapbak detach /dev/mapper/data || [ "$won" = 0 ]
	as_it_was data linear
	end_files ext4 /dev/mapper/data
}

session() {
	new_device linear 64
	snapbak attach /dev/mapper/data
	start_backup data --no-sweep
	says 'a backup of it is running' snapbak detach /dev/mapper/data
	equal 'the target' "$(target_of data)" snapbak
	snapbak detach --force /dev/mapper/data
	end_backup 3
	until_true 10 gone data-snapbak
	as_it_was data linear
}

gone() {
	! dmsetup info "$1" >/dev/null 2>&1
}

unloaded() {
	new_device linear 64
	rmmod dm-snapbak
	defer "insmod $MODULE"
	says 'dm-snapbak is not loaded' snapbak attach /dev/mapper/data
	as_it_was data linear
}

it 'comes and goes a dozen times under ext4 on a linear device that is written to' linear
it 'comes and goes under ext4 on stripes' striped
it 'comes and goes under xfs on a table of several lines' segments
it 'comes and goes under ext4 on a thin volume' thin
it 'is told what was done, and knows a device that is attached' tells
it 'keeps the read-ahead that the administrator set' read_ahead
it 'is refused on a device that remembers more than its table' remembering
it 'is refused on a plain disk, with the ways' plain
it 'is made over a disk that nobody uses, and goes from it while it is mounted' over_a_partition
it 'undoes each step before the one that fails' undoes
it 'needs nothing of the device that stands still, though it runs from there' from_itself
it 'leaves a frozen file system frozen' frozen
it 'leaves a device that works wherever it is killed' killed
it 'attaches once, however many try' at_once
it 'is not taken away from a running backup, unless that is to break' session
it 'says what to do when the module is not loaded' unloaded
