#!/bin/sh
# The guest's first process, run by busybox from the initramfs. It mounts the
# host's root read-only with a tmpfs over it, runs the one command in there, sends
# its output and exit status through virtio-serial ports, and powers off.
# Ports: 1 stdout, 2 stderr, 3 what the runner reads: "up", then the status.
export PATH=/bin
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
exec </dev/console >/dev/console 2>&1

give_up() {
  echo "vm: $1" >/dev/kmsg
  poweroff -f -n
}

# what the runner says: vm.run=FOLDER vm.kernel=FOLDER-OF-MODULES vm.hung=SECONDS
for word in $(cat /proc/cmdline); do
  case $word in
    vm.run=*) run=${word#*=} ;;
    vm.modules=*) modules=${word#*=} ;;
    vm.hung=*) hung=${word#*=} ;;
  esac
done
while read -r module; do
  insmod "/modules/$module" || give_up "insmod $module failed"
done </modules/order

# Processors join now: QEMU's emulation can run stale code where a kernel patches
# itself while several processors run, which it does most of all while it boots.
for cpu in /sys/devices/system/cpu/cpu*/online; do
  [ "$(cat "$cpu")" = 1 ] || echo 1 >"$cpu"
done

mount -t virtiofs -o ro root /lower || give_up 'the host root cannot be mounted'
mount -t tmpfs -o size=75%,mode=755 tmpfs /upper
mkdir /upper/root /upper/root-work /upper/modules /upper/modules-work
mount -t overlay -o lowerdir=/lower,upperdir=/upper/root,workdir=/upper/root-work overlay /new ||
  give_up 'the root cannot be overlaid'
for folder in proc sys dev; do mount --bind /$folder /new/$folder; done
mount -t tmpfs tmpfs /new/run
mkdir -p /new/dev/pts /new/dev/shm
mount -t devpts -o ptmxmode=666 devpts /new/dev/pts
mount -t tmpfs tmpfs /new/dev/shm
[ -d /new/sys/kernel/debug ] && mount -t debugfs debugfs /new/sys/kernel/debug
[ -d /new/sys/kernel/config ] && mount -t configfs configfs /new/sys/kernel/config 2>/dev/null
ln -s /proc/self/fd /new/dev/fd
ln -s /proc/self/fd/0 /new/dev/stdin
ln -s /proc/self/fd/1 /new/dev/stdout
ln -s /proc/self/fd/2 /new/dev/stderr
mkdir -p /new/lib/modules
mount -t overlay -o "lowerdir=/lower$modules,upperdir=/upper/modules,workdir=/upper/modules-work" overlay \
  /new/lib/modules || give_up 'the modules cannot be overlaid'
n=0
while read -r share; do
  mkdir -p "/new$share"
  mount -t virtiofs "share$n" "/new$share" || give_up "$share cannot be mounted"
  n=$((n + 1))
done <"/lower$run/shares"

ip link set lo up
hostname vm
umask 022
kernel=/new/proc/sys/kernel
echo 1 >$kernel/sysrq
if [ -e $kernel/hung_task_timeout_secs ]; then
  echo "$hung" >$kernel/hung_task_timeout_secs
  echo 10 >$kernel/hung_task_check_interval_secs
fi
leaks=/new/sys/kernel/debug/kmemleak
[ -e $leaks ] && echo clear >$leaks

# through pipes, because a port can be opened only once and programs open /dev/stdout again
mkfifo /out /err
cat /out >/new/dev/vport0p1 &
out=$!
cat /err >/new/dev/vport0p2 &
err=$!
echo up >/new/dev/vport0p3
chroot /new /bin/bash "$run/command" </dev/null >/out 2>/err
status=$?
# a process that the command left behind may hold the pipes open: not for long
for _ in 1 2 3 4 5 6 7 8 9 10; do
  kill -0 $out 2>/dev/null || kill -0 $err 2>/dev/null || break
  sleep 0.1
done

echo "status $status" >/new/dev/vport0p3

# an object counts as leaked when it is older than five seconds and two scans find no pointer to it
if [ -e $leaks ] && [ -e "/lower$run/leaks" ]; then
  sleep 6
  echo scan >$leaks
  echo scan >$leaks
  cat $leaks >/leaks
  while read -r line; do echo "<4>kmemleak: $line" >/new/dev/kmsg; done </leaks
fi
poweroff -f -n
