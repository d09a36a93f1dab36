/**
 * A machine whose mounts and devices a test makes up: NBD devices, RAID and
 * FUSE mounts need no hardware and no root here.
 */
import type { BlockDevice, Host, Identity, Mount } from '../../lib/host.js';

export interface FakeMachine {
  /** Mounts by mount point. */
  mounts: Record<string, Partial<Mount>>;
  /** Devices by number. */
  devices: Record<string, Partial<BlockDevice>>;
  /** Files by path; directories of mounts need none. */
  files: Record<string, Partial<Identity>>;
  /** The devices of a btrfs. */
  btrfs: string[];
}

/** 254:3 as stat() gives it. */
export function dev(major: number, minor: number): number {
  return major * 256 + minor;
}

export function fakeHost({ mounts, devices, files, btrfs = [] }: Partial<FakeMachine>): Host {
  const mountAt = (mountPoint: string): Mount => ({
    mountPoint,
    device: '0:50',
    fsType: 'ext4',
    source: 'none',
    options: [],
    ...mounts![mountPoint],
  });
  return {
    mounts: async () => Object.keys(mounts ?? {}).map(mountAt),
    btrfsDevices: async (number) => (btrfs.includes(number) ? btrfs : []),
    async mountOf(path) {
      const mountPoint = Object.keys(mounts ?? {})
        .filter((point) => path === point || path.startsWith(point === '/' ? '/' : `${point}/`))
        .sort((a, b) => b.length - a.length)[0];
      return mountPoint === undefined ? undefined : mountAt(mountPoint);
    },
    async blockDevice(number) {
      const device = devices?.[number];
      return device && { number, name: 'sda', size: 2 ** 40, readOnly: false, below: [], ...device };
    },
    requestTotals: async () => undefined,
    async identify(path) {
      const file = files?.[path];
      return file && { fileSystem: '254:1', inode: 1, size: 0, ...file };
    },
  };
}
