# Sourced: makes LVM work in a guest without udev, on its scratch disks alone.
LVM_SYSTEM_DIR=$(mktemp -d)
export LVM_SYSTEM_DIR LVM_SUPPRESS_FD_WARNINGS=1
cat >"$LVM_SYSTEM_DIR/lvm.conf" <<'CONF'
activation { udev_sync = 0 udev_rules = 0 monitoring = 0 }
devices {
  obtain_device_list_from_udev = 0
  external_device_info_source = "none"
  use_devicesfile = 0
  filter = [ "a|^/dev/vd[a-z]$|", "r|.*|" ]
}
CONF
