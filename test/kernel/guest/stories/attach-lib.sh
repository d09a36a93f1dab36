# Sourced, after lib.sh: file systems that are written to while the driver comes
# and goes, and how a device is left.

unmount() {
	! mountpoint -q "$1" || umount "$1"
}

# mounted KIND DEVICE: a new file system at $LIVE.
mounted() {
	modprobe -q "$1" || true
	wipefs -qa "$2"
	"mkfs.$1" -q "$2"
	LIVE=$T/live
	mkdir -p "$LIVE"
	mount "$2" "$LIVE"
	defer unmount "$LIVE"
}

FILES=(60000 'file # of the story')

begin_files() {
	: >"$T/files"
	file-tool stream "$LIVE" "$T/files" "${FILES[@]}" &
	WRITER=$!
	defer "end_process $WRITER"
	until_true 30 test -s "$T/files"
}

# goes_on: the writer is alive, and comes to the end of another file.
goes_on() {
	local before
	count_files
	before=$COUNT
	until_true 30 wrote_more "$before"
	kill -0 "$WRITER"
}

count_files() {
	local lines
	mapfile -t lines <"$T/files"
	COUNT=${#lines[@]}
}

wrote_more() {
	count_files
	[ "$COUNT" -gt "$1" ]
}

# end_files KIND DEVICE: everything is there that was durable, and the file system is clean.
end_files() {
	kill -0 "$WRITER" || fail "the writer failed"
	end_process "$WRITER" || true
	file-tool check-log "$LIVE" "$T/files" "${FILES[@]}"
	umount "$LIVE"
	if [ "$1" = xfs ]; then xfs_repair -n "$2"; else e2fsck -fn "$2"; fi
}

# target_of NAME: of its one line.
target_of() {
	dmsetup table "$1" | cut -d' ' -f3 | sort -u
}

# as_it_was NAME TARGET: live, with the target it had, and nothing of ours left.
as_it_was() {
	equal "the target of $1" "$(target_of "$1")" "$2"
	equal "the state of $1" "$(dmsetup info -c --noheadings -o suspended,tables_loaded "$1")" Active:Live
	refused dmsetup info "$1-snapbak" 2>/dev/null
}

# says WORDS COMMAND...: it must fail with these words.
says() {
	refused "${@:2}" >"$T/said" 2>&1
	grep -q "$1" "$T/said" || fail "it says: $(cat "$T/said")"
}
