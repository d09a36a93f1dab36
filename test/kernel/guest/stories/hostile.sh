# A library that breaks every rule of the contract.
. "$(dirname "$0")/lib.sh"

MiB=2048 # sectors
SEED=${SEED:-1}

# MESSAGE COMMAND...: the command, as which the control device is opened, is told so.
refuses() {
	local message=$1
	shift
	"$@" bash -c ': <>/dev/snapbak/control' 2>"$T/said" && return 1
	grep -q "$message" "$T/said"
}
control_device() {
	local nobody='setpriv --reuid 65534 --regid 65534 --clear-groups'
	[ "$(stat -c '%a %U %F' /dev/snapbak/control)" = '600 root character special file' ]
	refuses 'Permission denied' $nobody
	chmod 666 /dev/snapbak/control
	defer 'chmod 600 /dev/snapbak/control'
	refuses 'Operation not permitted' $nobody
	refuses 'Operation not permitted' setpriv --bounding-set -sys_admin --inh-caps -sys_admin
	: <>/dev/snapbak/control
}
it 'may not even open the control device without CAP_SYS_ADMIN' control_device

wrong_requests() {
	slice a-lower $((4 * MiB))
	slice b-lower $((4 * MiB)) $((4 * MiB))
	origin a /dev/mapper/a-lower
	origin b /dev/mapper/b-lower
	refusals /dev/mapper/a /dev/mapper/b
}
it 'is told what is wrong with each request, and gets no further' wrong_requests

attack() {
	slice o-lower $((16 * MiB - 1))
	origin o /dev/mapper/o-lower
	hostile --origin /dev/mapper/o --seed "$1" --seconds 8
}
first_attack() { attack "$SEED"; }
it 'harms neither kernel nor origin by rubbish in requests, mappings and shared memory' first_attack
second_attack() { attack $((SEED + 1)); }
it 'does not in a second attempt' second_attack

descriptors() {
	slice o-lower $((4 * MiB))
	origin o /dev/mapper/o-lower
	lifetimes /dev/mapper/o
}
it 'keeps a session alive only as long as its descriptor or its mapping is somewhere' descriptors

own_write() {
	slice o-lower $((4 * MiB))
	origin o /dev/mapper/o-lower
	defer 'dmsetup message o 0 break; true'
	lifetimes /dev/mapper/o writer
}
it 'ends with its owner though a write of the owner itself is held' own_write
