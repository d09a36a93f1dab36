# The second tier of snapbak backup on devices that fail. Runs in the project's
# folder. Disks: vda for the origin, vdb for the target, vdc for the container.
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

MiB=2048 # sectors
SEED=${SEED:-1}

# begin_backup: little memory, a target that takes 20 ms for each block, the container on /dev/mapper/tier2,
# and writers that are faster.
begin_backup() {
	modprobe dm-delay
	stamped o $((24 * MiB - 3))
	remember o
	table slow <<<"0 $((24 * MiB)) delay /dev/vdb 0 0 /dev/vdb 0 20"
	start_command "$T/backup" --target-device /dev/mapper/slow --force \
		--container memory:512K --container device:/dev/mapper/tier2 --rate 1M
	churn o --seed "$SEED" --threads 8 --kinds write,zeroout,dsync
}

# end_with STATUS
end_with() {
	local rc=0
	wait "$BACKUP" || rc=$?
	equal "the exit status ($(tail -n 1 "$T/events"))" $rc "$1"
	end_churn
	is_state o idle
	holds /dev/mapper/o "$T/o.map"
}

slow() {
	modprobe dm-delay
	table tier2 <<<"0 $((16 * MiB)) delay /dev/vdc 0 5 /dev/vdc 0 5"
	begin_backup
	end_with 0
	at_least 'blocks that spilled' "$(sed -n 's/.*"spilledBlocks":\([0-9]*\).*/\1/p' "$T/events" | tail -n 1)" 10
	holds /dev/mapper/slow "$T/o.then"
}
it 'is slow: what spills there comes back, and the backup is good' slow

refusing() {
	table tier2 <<<"0 $((16 * MiB)) error"
	begin_backup
	end_with 0
	grep -q '"lost":true' "$T/events" || fail "nobody was told: $(cat "$T/events")"
	holds /dev/mapper/slow "$T/o.then"
}
it 'takes nothing: that is told, memory alone must do, and the backup is good' refusing

# Every write has a byte changed on its way. (A place that cannot be read is in test/native/tier2: to a session it is the same.)
garbling() {
	modprobe dm-flakey
	table tier2 <<<"0 $((16 * MiB)) flakey /dev/vdc 0 0 3600 5 corrupt_bio_byte 100 w 1 0"
	begin_backup
	end_with 3
	grep -q '"code":"ERR_SNAPBAK_CONTAINER_LOST"' "$T/events" || fail "$(tail -n 1 "$T/events")"
	if grep -qs '"state": *"complete"' "$T/backup/manifest.json"; then fail 'it says that it is complete'; fi
}
it 'gives back something else than it was given: the backup breaks, the origin does not' garbling
