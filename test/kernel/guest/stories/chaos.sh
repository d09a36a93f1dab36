# Sessions that everything befalls, drawn from a seed. SEED and ROUNDS make it
# another run or a longer one; FIRST is the number of the first session, so that
# a single one can be repeated. Each tells what became of it in a line of JSON.
# Runs in the project's folder. Disks: vda for the origin, vdb for the target,
# vdc for the container.
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

MiB=2048 # sectors
SEED=${SEED:-1}
FIRST=${FIRST:-0}
ROUNDS=${ROUNDS:-20}
CLI_ROUNDS=${CLI_ROUNDS:-1}
SLACK=${SLACK:-5000} # ms that a busy machine may add to any time
MIB_LEFT=${MIB_LEFT:-8} # that the sessions may leave in caches; the debug kernel finds leaks by itself

exec 3>&1 # past the tests' own output

# chaos_sessions N
chaos_sessions() {
	chaos --disk "$DISK" --target-disk /dev/vdb --small "$T/small/image" \
		--seed "$SEED" --first "$FIRST" --sessions "$1" --slack "$SLACK" >"$T/chaos.log"
}

sessions() {
	local before left
	modprobe -a dm-delay dm-flakey
	mkdir "$T/small"
	mount -t tmpfs -o size=3m tmpfs "$T/small"
	defer "umount $T/small"
	defer "cat $T/chaos.log >&3"
	# what the first sessions leave in caches is no leak
	chaos_sessions 2
	before=$(free_mib)
	chaos_sessions "$ROUNDS"
	left=$((before - $(free_mib)))
	echo "{\"mibLeft\": $left}" >>"$T/chaos.log"
	at_most 'MiB that the sessions left behind' "$left" "$MIB_LEFT"
	equal devices "$(dmsetup ls)" 'No devices found'
	equal 'users of the module' "$(cat /sys/module/dm_snapbak/refcnt)" 0
	rmmod dm-snapbak
	insmod "$MODULE"
}
it 'lose no write, hold none for too long, end in no bad backup, and leave nothing behind' sessions

# --- the real program: one fault each

CLI_SIZE=$((24 * MiB))
CLI_FAULTS=(none kill stop break suspend unreadable target-errors target-slow tier2-errors tier2-garbled)

# linear_on DISK, errors, slow DISK, garbled DISK: tables of the size of the origin
linear_on() { echo "0 $CLI_SIZE linear $1 0"; }
errors() { echo "0 $CLI_SIZE error"; }
slow() { echo "0 $CLI_SIZE delay $1 0 0 $1 0 30"; }
garbled() { echo "0 $CLI_SIZE flakey $1 0 0 3600 5 corrupt_bio_byte 100 w 1 0"; }
# MiB 2 of the origin can be written and not read
unreadable() {
	cat <<-EOT
		0 4096 linear $DISK 0
		4096 2048 delay /dev/mapper/bad 4096 0 $DISK 4096 0
		6144 $((CLI_SIZE - 6144)) linear $DISK 6144
	EOT
}

# swap NAME <<<TABLE: under its users
swap() {
	dmsetup load "$1"
	dmsetup resume --noflush --nolockfs "$1"
}

strike() {
	case $1 in
	# it may be over before
	kill) kill -KILL "$BACKUP" || true ;;
	stop)
		kill -STOP "$BACKUP" || true
		sleep 0.7
		kill -CONT "$BACKUP" || true
		;;
	break) dmsetup message o 0 break || true ;;
	suspend)
		dmsetup suspend o
		sleep 0.4
		dmsetup resume o
		;;
	unreadable) unreadable | swap o-lower ;;
	target-errors) errors | swap target ;;
	target-slow) slow /dev/vdb | swap target ;;
	tier2-errors) errors | swap tier2 ;;
	tier2-garbled) garbled /dev/vdc | swap tier2 ;;
	esac
}

says_complete() {
	grep -qs '"state": *"complete"' "$1/manifest.json"
}

# cli_session N: what it meets is drawn from the seed and N
cli_session() {
	local fault after status=0 folder="$T/backup-$1"
	RANDOM=$((SEED * 1000 + $1))
	fault=${CLI_FAULTS[RANDOM % ${#CLI_FAULTS[@]}]}
	after=$((RANDOM % 2)).$((RANDOM % 10)) # of about six seconds
	remember o
	start_command "$folder" --target-device /dev/mapper/target --force \
		--container memory:512K --container device:/dev/mapper/tier2 --rate 3M
	# no reads, which would fail where captures are to; slowly, for the rate limits the sweep alone
	churn o --seed "$RANDOM" --pause 100000 --kinds write,dsync,zeroout
	sleep "$after"
	strike "$fault" 2>/dev/null
	wait "$BACKUP" || status=$?
	echo "{\"cli\": $1, \"fault\": \"$fault\", \"after\": $after, \"status\": $status}" >&3
	end_churn
	# all is well again
	linear_on "$DISK" | swap o-lower
	linear_on /dev/vdb | swap target
	linear_on /dev/vdc | swap tier2
	until_true 10 is_state o idle
	holds /dev/mapper/o "$T/o.map"
	case $fault-$status in
	*-0)
		says_complete "$folder"
		holds /dev/mapper/target "$T/o.then"
		;;
	unreadable-4)
		says_complete "$folder"
		holds /dev/mapper/target "$T/o.then" --list 0:2M --list 3M:21M
		;;
	none-* | suspend-* | stop-* | target-slow-* | tier2-errors-* | unreadable-*)
		fail "status $status after $fault: $(tail -n 2 "$T/events" "$T/words")"
		;;
	*)
		if says_complete "$folder"; then fail "it says that it is complete, with status $status after $fault"; fi
		;;
	esac
}

real_program() {
	local n
	modprobe -a dm-delay dm-flakey
	errors | table bad
	linear_on "$DISK" | table o-lower
	linear_on /dev/vdb | table target
	linear_on /dev/vdc | table tier2
	origin o /dev/mapper/o-lower
	stamp-tool fill /dev/mapper/o "$T/o.map"
	for ((n = FIRST; n < FIRST + CLI_ROUNDS; n++)); do
		echo "the program's session $n of seed $SEED; again: npm run chaos:kernel -- --seed $SEED --first $n --sessions 1 --cli 1"
		cli_session "$n"
	done
}
it 'do so when the real program makes them' real_program
