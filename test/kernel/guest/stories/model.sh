# The model test and the stamped-sector loops, over lower devices of every kind.
# SEED and ROUNDS in the environment make it another run, or a longer one.
. "$(dirname "$0")/lib.sh"

MiB=2048 # sectors
SEED=${SEED:-1}
ROUNDS=${ROUNDS:-4}

on_a_disk() {
	slice o-lower $((32 * MiB - 3))
	origin o /dev/mapper/o-lower
	model --origin /dev/mapper/o --seed "$SEED" --rounds $((3 * ROUNDS)) --quiesce 0
}
it 'gives an image of one instant, and an origin with every write, however requests and copying meet' on_a_disk

at_rest() {
	slice o-lower $((32 * MiB - 3))
	origin o /dev/mapper/o-lower
	model --origin /dev/mapper/o --seed "$SEED" --rounds "$ROUNDS" --quiesce 1
}
it 'gives exactly what was there when nothing was under way at the start' at_rest

# The second disk of the story has sectors of 4 KiB.
large_sectors() {
	DISK=/dev/vdb
	equal 'size of its sectors' "$(blockdev --getss $DISK)" 4096
	slice o-lower $((24 * MiB + 24))
	origin o /dev/mapper/o-lower
	model --origin /dev/mapper/o --seed "$SEED" --rounds "$ROUNDS"
}
it 'does so on sectors of 4 KiB' large_sectors

delayed() {
	modprobe dm-delay
	table o-lower <<<"0 $((8 * MiB)) delay $DISK 0 3 $DISK 0 1"
	origin o /dev/mapper/o-lower
	model --origin /dev/mapper/o --seed "$SEED" --rounds "$ROUNDS" --threads 12
}
it 'does so when every read of the lower device takes its time' delayed

in_stripes() {
	table o-lower <<<"0 $((24 * MiB)) striped 2 16 $DISK 0 /dev/vdb 0"
	origin o /dev/mapper/o-lower
	model --origin /dev/mapper/o --seed "$SEED" --rounds "$ROUNDS"
}
it 'does so on stripes smaller than a block' in_stripes

# Without discards, which would leave rubbish there.
encrypted() {
	# the guest's kernel cannot ask for modules by itself
	modprobe -a dm-crypt xts aes_generic
	table o-lower <<<"0 $((24 * MiB)) crypt aes-xts-plain64 $(printf '%064d' 7) 0 $DISK 0"
	origin o /dev/mapper/o-lower
	model --origin /dev/mapper/o --seed "$SEED" --rounds "$ROUNDS"
}
it 'does so on an encrypted device' encrypted

# Two drivers, the one over the other: sessions on both at the same time.
stacked() {
	slice o-lower $((24 * MiB))
	origin inner /dev/mapper/o-lower
	origin o /dev/mapper/inner
	backup-tool --origin /dev/mapper/inner --image "$T/inner.img" --no-sweep --on-full hold --slots 4 >"$T/inner.log" &
	BACKUP=$! BACKUP_NAME=inner
	defer "end_process $BACKUP"
	until_true 30 started
	kill -USR1 "$BACKUP"
	model --origin /dev/mapper/o --seed "$SEED" --rounds "$ROUNDS"
	end_backup
}
it 'does so when its lower device is an origin with a session of its own' stacked

# As blksnap's tests do: every sector is stamped, overwritten during the session, and verified.
loops() {
	local size
	stamped o $((24 * MiB - 9))
	for size in 4K 64K 1M 16K; do
		remember o
		start_backup o --block-size $size --slots 5 --sweep-delay 2000 --run-blocks 3 --no-sweep
		churn o --seed "$SEED" --block-size $size --kinds write,dsync,nowait,zeroout,punch-hole,discard
		until_true 60 has_captured o 8
		kill -USR1 "$BACKUP" || true # the writers may have done it all
		until_true 60 is_state o idle
		end_churn
		end_backup
		holds "$T/o.img" "$T/o.then"
		holds /dev/mapper/o "$T/o.map"
	done
}
it 'keeps every stamped sector, session after session, in blocks of any size' loops

put_back() {
	stamped o $((8 * MiB))
	remember o
	start_backup o --slots 8
	churn o --seed "$SEED" --requests 200
	wait "$CHURN"
	end_backup
	# the way back goes through the driver too, and so may a session on it
	cp "$T/o.img" "$T/first.img"
	cp "$T/o.then" "$T/first.map"
	remember o
	start_backup o --slots 8 --no-sweep
	dd if="$T/first.img" of=/dev/mapper/o bs=1M oflag=direct status=none
	end_backup
	holds /dev/mapper/o "$T/first.map"
	holds "$T/o.img" "$T/o.then"
}
it 'takes a backup back during the next session, which keeps what it replaces' put_back
