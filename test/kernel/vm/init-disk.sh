#!/bin/sh
# The first process of a guest whose system is on its own disk: mounts that, as
# the kernel's command line says (ro, rw), and hands over to the disk's init.
export PATH=/bin
mount -t proc proc /proc
mount -t devtmpfs devtmpfs /dev
exec </dev/console >/dev/console 2>&1

give_up() {
  echo "vm: $1"
  poweroff -f -n
}

for word in $(cat /proc/cmdline); do
  case $word in ro | rw) mode=$word ;; esac
done
while read -r module; do
  insmod "/modules/$module" || give_up "insmod $module failed"
done </modules/order
mount -t ext4 -o "$mode" /dev/vda /new || give_up 'the disk cannot be mounted'
for folder in proc dev; do mount --move /$folder /new/$folder; done
exec switch_root /new /sbin/init
