# The real program is killed, not the test's own: snapbak backup. Runs in the
# project's folder.
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

MiB=2048 # sectors
SEED=${SEED:-1}

# The file system is not needed: stamps tell more.
three_times() {
	local round
	stamped o $((24 * MiB - 3))
	churn o --seed "$SEED" --kinds write,dsync,zeroout,discard --pause 100000 # 64 KiB are captured for each
	for round in 1 2 3; do
		start_command "$T/killed-$round" --container memory:1M --rate 3M
		# each time a little later in the copying, which takes six seconds
		sleep $((round - 1)).5
		kill -KILL $BACKUP
		wait $BACKUP || true
		until_true 10 is_state o idle
		if grep -qs '"state": *"complete"' "$T/killed-$round/manifest.json"; then fail 'it says that it is complete'; fi
	done
	end_churn
	holds /dev/mapper/o "$T/o.map"
	snapbak backup /dev/mapper/o "$T/good" --json >"$T/events"
	holds "$T/good/data.img" "$T/o.map"
}
it 'in the midst of copying: writers go on, nothing says complete, the next backup is good' three_times

while_held() {
	local begin
	stamped o $((24 * MiB - 3))
	start_command "$T/killed" --container memory:1M --rate 1M --on-full hold
	kill -STOP $BACKUP
	churn o --threads 16
	until_true 30 many_held
	begin=$(milliseconds)
	kill -KILL $BACKUP
	wait $BACKUP || true
	until_true 10 is_state o idle
	within 'ms from the death to the end of the session' $(($(milliseconds) - begin)) 5000
	sleep 0.2
	end_churn
	holds /dev/mapper/o "$T/o.map"
}
many_held() {
	[ "$(counter o 7)" -ge 8 ]
}
it 'while writes are held: they go on at once' while_held
