/**
 * Where a container or a target may lie: never where its writes could have to
 * wait for the very writes that the session holds (design, invariant 6). Both
 * ask here before they make anything. And which origin stands on which.
 */
import type { NativeOriginInfo } from './binding.js';
import { deviceNumber, type Host, type Mount, thisHost } from './host.js';

/** What this needs to know about an origin. */
export type OriginPlace = Pick<NativeOriginInfo, 'size' | 'dev' | 'lowerDev' | 'lowerInode' | 'lowerFsDev'>;

const MEMORY = new Set(['tmpfs', 'ramfs', 'devtmpfs']);

/** Whether the file system that holds `path` keeps its files in memory. */
export async function inMemory(path: string, host: Host = thisHost): Promise<boolean> {
  return MEMORY.has((await host.mountOf(path))?.fsType ?? '');
}

/**
 * Why a file made in `directory` could depend on the origin, in words that
 * continue "it …"; undefined if nothing speaks for that.
 */
export async function fileDependence(
  directory: string,
  origin: OriginPlace,
  host: Host = thisHost,
): Promise<string | undefined> {
  const mount = await host.mountOf(directory);
  return mount === undefined ? undefined : new Walk(origin, host).mount(mount);
}

/** The same for the block device at `path`, and whether the origin stands on it. */
export async function deviceDependence(
  path: string,
  origin: OriginPlace,
  host: Host = thisHost,
): Promise<string | undefined> {
  const number = (await host.identify(path))?.blockDevice;
  if (number === undefined) return undefined;
  const reason = await new Walk(origin, host).device(number);
  if (reason !== undefined) return reason;
  const under = new Set<string>();
  for (const dev of [origin.dev, origin.lowerDev, origin.lowerFsDev]) {
    if (dev !== 0) await standsOn(deviceNumber(dev), host, under);
  }
  return under.has(number) ? 'is a device that the origin lies on' : undefined;
}

/** Why another origin could stand on this one, in the same words. */
export async function originDependence(
  other: OriginPlace,
  origin: OriginPlace,
  host: Host = thisHost,
): Promise<string | undefined> {
  const walk = new Walk(origin, host);
  if (other.lowerDev !== 0) return walk.device(deviceNumber(other.lowerDev));
  const holder = deviceNumber(other.lowerFsDev);
  const mount = (await host.mounts()).find(({ device }) => device === holder);
  return mount === undefined ? undefined : walk.mount(mount);
}

/** Whether `path` is the origin's image or device itself. */
export async function isOrigin(path: string, origin: OriginPlace, host: Host = thisHost): Promise<boolean> {
  const identity = await host.identify(path);
  if (identity === undefined) return false;
  if (identity.blockDevice !== undefined) return isOriginDevice(identity.blockDevice, origin);
  return (
    origin.lowerInode !== 0 &&
    identity.inode === origin.lowerInode &&
    identity.fileSystem === deviceNumber(origin.lowerFsDev)
  );
}

/** The origin as a block device has two faces: itself, and the device that its driver forwards to. */
function isOriginDevice(number: string, { dev, lowerDev }: OriginPlace): boolean {
  return [dev, lowerDev].some((id) => id !== 0 && deviceNumber(id) === number);
}

/**
 * The mounted file systems that lie on a block device, directly or by way of
 * LVM, RAID or partitions: one mount of each.
 */
export async function mountsOn(number: string, host: Host = thisHost): Promise<Mount[]> {
  const found = new Map<string, Mount>();
  for (const mount of await host.mounts()) {
    if (found.has(mount.device)) continue;
    const under = new Set<string>();
    for (const device of await devicesOf(mount, host)) await standsOn(device, host, under);
    if (under.has(number)) found.set(mount.device, mount);
  }
  return [...found.values()];
}

/** The block devices that hold a mounted file system and its log. */
export async function devicesOf(mount: Mount, host: Host): Promise<string[]> {
  // btrfs, fuseblk, …: no device number of their own, but devices that were mounted
  const own = mount.device.startsWith('0:') ? [] : [mount.device];
  const named = own.length > 0 ? [] : mount.source.split(':');
  for (const option of mount.options) {
    const path = /^(?:logdev|rtdev)=(.*)/.exec(option)?.[1];
    if (path !== undefined) named.push(path);
  }
  const devices = new Set(own);
  for (const path of named.filter((name) => name.startsWith('/'))) {
    const number = (await host.identify(path))?.blockDevice;
    if (number === undefined) continue;
    devices.add(number);
    if (mount.fsType === 'btrfs') for (const other of await host.btrfsDevices(number)) devices.add(other);
  }
  return [...devices];
}

async function standsOn(number: string, host: Host, found: Set<string>): Promise<void> {
  if (found.has(number)) return;
  found.add(number);
  for (const below of (await host.blockDevice(number))?.below ?? []) await standsOn(below, host, found);
}

/** Follows what something stands on, down to the disks; the first reason ends it. */
class Walk {
  readonly #seen = new Set<string>();

  constructor(
    private readonly origin: OriginPlace,
    private readonly host: Host,
  ) {}

  async mount(mount: Mount): Promise<string | undefined> {
    const devices = await devicesOf(mount, this.host);
    for (const device of devices) {
      const reason = await this.device(device);
      if (reason !== undefined) return reason;
    }
    if (devices.length > 0) return undefined;
    const upper = mount.options.find((option) => option.startsWith('upperdir='))?.slice('upperdir='.length);
    if (mount.fsType !== 'overlay' || upper === undefined || this.#again(`overlay ${upper}`))
      return undefined;
    const below = await this.host.mountOf(upper);
    return below === undefined || below.device === mount.device ? undefined : this.mount(below);
  }

  async device(number: string): Promise<string | undefined> {
    if (this.#again(number)) return undefined;
    const device = await this.host.blockDevice(number);
    const name = device?.name ?? `device ${number}`;
    if (isOriginDevice(number, this.origin)) return `lies on the origin itself (${name})`;
    if (device === undefined) return undefined;
    if (/^(nbd|ublkb)\d/.test(name) && this.#mayServe(device.size)) {
      return `lies on ${name}, a device served by a program, which may serve the origin itself`;
    }
    if (device.backingFile !== undefined) {
      const reason = await this.#backing(device.backingFile, name);
      if (reason !== undefined) return reason;
    }
    for (const below of device.below) {
      const reason = await this.device(below);
      if (reason !== undefined) return reason;
    }
    return undefined;
  }

  async #backing(file: string, loop: string): Promise<string | undefined> {
    if (await isOrigin(file, this.origin, this.host))
      return `lies on the origin itself (${loop}, over ${file})`;
    const identity = await this.host.identify(file);
    if (identity?.blockDevice !== undefined) return this.device(identity.blockDevice);
    const mount = await this.host.mountOf(file);
    if (mount === undefined) return undefined;
    if (/^fuse(\.|$)/.test(mount.fsType)) {
      if (!this.#mayServe(identity?.size ?? 0)) return undefined;
      return `lies on ${loop}, over ${file} on a FUSE file system, which may serve the origin itself`;
    }
    return this.mount(mount);
  }

  /**
   * A program that serves the origin (an NBD client in the kernel, nbdfuse)
   * shows it at its full size, rounded down at most to 4 KiB. Another size is
   * another disk: machines may well boot from NBD. 0 is unknown, and refused.
   */
  #mayServe(size: number): boolean {
    return size === 0 || Math.abs(size - this.origin.size) < 4096;
  }

  #again(key: string): boolean {
    if (this.#seen.has(key)) return true;
    this.#seen.add(key);
    return false;
  }
}
