/**
 * Attaches the kernel driver to a device in use. Decides whether it may be done;
 * the exchange itself is native (native/driver/dm_layer.h), because while it
 * lasts JavaScript might need a page of the device that stands still.
 */
import { expectOptions, expectType } from '../arguments.js';
import {
  binding,
  type NativeBinding,
  type NativeDeviceMapper,
  type NativeDmInfo,
  type NativeDmLayer,
} from '../binding.js';
import { deviceId, type Host, thisHost } from '../host.js';
import { mountsOn } from '../placement.js';
import { type Doing, outcomeFailure, refused, requestFailure } from './failure.js';
import { lowerOf, removeLeftovers } from './leftovers.js';
import {
  createdUuid,
  isDeviceName,
  isLower,
  isPrivate,
  lowerName,
  lowerUuid,
  nameTooLong,
  originName,
} from './names.js';
import { refusalOf, TARGET } from './targets.js';

/** How a device is attached. */
export interface AttachOptions {
  /**
   * Makes the device-mapper device `/dev/mapper/NAME` over a block device that
   * nobody uses. Without it, the path is a device-mapper device, in use or not.
   */
  create?: string;
}

/** An attached device. */
export interface Attachment {
  /** The origin, for `openOrigin`: `/dev/mapper/NAME`. */
  device: string;
  /** The device that was made below it. Absent where `create` made the origin itself. */
  lower?: string;
  /** Bytes. */
  size: number;
  /** How long writes stood still at most, milliseconds; 0 for a new device. */
  stoppedMs: number;
}

/** Where devices are; tests have a world of their own. */
export interface AttachWorld {
  native: NativeBinding;
  host: Host;
}

/**
 * Puts the kernel driver under a device-mapper device (an LVM volume, LUKS, …)
 * without unmounting what is on it: the device's table moves to a lower device,
 * and its own becomes one line of the target `snapbak`. The device can be backed
 * up afterwards. It stays attached until `detachOrigin`, or until it is
 * deactivated; a reboot ends it, too.
 *
 * A file system on it is frozen for the moment of the exchange.
 *
 * @param path `/dev/mapper/NAME`, `/dev/VG/LV`, `/dev/dm-N` or a link to one;
 * with `create`, any block device that is not in use.
 * @throws TypeError for arguments that are no such path or name.
 * @throws SnapbakError `ERR_SNAPBAK_ATTACH` if the device is refused, or a step
 * failed: what had been done is undone then. `ERR_SNAPBAK_MISSING` without the
 * kernel module or libdevmapper, `ERR_SNAPBAK_PERMISSION` for all but root.
 * @example
 * ```ts
 * const { device } = await attachOrigin('/dev/vg/data');
 * await using origin = await openOrigin(device);
 * const backup = await startBackup({ origin, target: directoryTarget('/backup/monday') });
 * await backup.finished;
 * await detachOrigin(device);
 * ```
 */
export async function attachOrigin(
  path: string,
  options: AttachOptions = {},
  world: Partial<AttachWorld> = {},
): Promise<Attachment> {
  expectPath(path);
  expectOptions('options', options, ['create']);
  const { create } = options;
  if (create !== undefined) {
    expectType('options.create', create, 'string');
    if (!isDeviceName(create)) {
      throw new TypeError(`options.create must be a name of letters, digits and "#+-.:=@_", not "${create}"`);
    }
  }
  const { native = binding(), host = thisHost } = world;
  const what: Doing = { doing: 'attach', path };
  const device = await blockDeviceAt(path, what, host);
  try {
    return create === undefined
      ? await attach(device, what, { native, host })
      : await createOver(device, create, what, native.deviceMapper);
  } catch (error) {
    throw requestFailure(error, what);
  }
}

/** Throws unless it can be the path of a device. */
export function expectPath(path: unknown): asserts path is string {
  expectType('path', path, 'string');
  if (!(path as string).startsWith('/') || (path as string).includes('\0')) {
    throw new TypeError(`path must be the path of a device and start with "/", not "${path}"`);
  }
}

/** `MAJOR:MINOR` */
async function blockDeviceAt(path: string, what: Doing, host: Host): Promise<string> {
  const identity = await host.identify(path);
  if (identity === undefined) throw refused(what, 'there is no such device', 'ERR_SNAPBAK_ORIGIN');
  if (identity.blockDevice === undefined) {
    throw refused(
      what,
      `it is no block device; an image is served by "snapbak serve ${path} --socket NBD --control CONTROL"`,
      'ERR_SNAPBAK_ORIGIN',
    );
  }
  return identity.blockDevice;
}

async function attach(number: string, what: Doing, { native, host }: AttachWorld): Promise<Attachment> {
  const dm = native.deviceMapper;
  const origin = await dm.info({ device: deviceId(number) });
  if (origin === null) throw refused(what, plainDevice(what.path));
  what.name = origin.name;
  await expectAttachable(origin, what, dm);
  await expectTarget(what, dm);
  await clearTheWay(origin, what, dm);

  // the exchange freezes what is mounted, and a freeze writes what is dirty: little, after this
  const mounts = await mountsOn(number, host);
  await Promise.allSettled(mounts.map(({ mountPoint }) => native.syncFileSystem(mountPoint)));

  const outcome = await dm.attach(layerOf(origin));
  if (outcome.errno !== 0) throw outcomeFailure(outcome, what);
  return {
    device: `/dev/mapper/${origin.name}`,
    lower: `/dev/mapper/${lowerName(origin.name)}`,
    size: (await host.blockDevice(number))?.size ?? 0,
    stoppedMs: outcome.stoppedNs / 1e6,
  };
}

/** What attaching puts under a device, and detaching takes away. */
export function layerOf(origin: NativeDmInfo): NativeDmLayer {
  return {
    origin: origin.name,
    lowerName: lowerName(origin.name),
    lowerUuid: lowerUuid(origin),
    target: TARGET,
    offset: 0,
    hidden: isPrivate(origin.uuid),
  };
}

function plainDevice(path: string): string {
  return (
    'it is no device-mapper device, and only such can be attached while they are in use. The ways: unmount it ' +
    `and put Snapbak in between, "snapbak attach --create NAME ${path}", and mount /dev/mapper/NAME instead; ` +
    'or keep the data on an LVM volume; or serve it, unmounted, by the user driver: ' +
    `"snapbak serve ${path} --socket NBD --control CONTROL"`
  );
}

async function expectAttachable(origin: NativeDmInfo, what: Doing, dm: NativeDeviceMapper): Promise<void> {
  if (isLower(origin)) {
    throw refused(
      what,
      `it is the lower device of /dev/mapper/${originName(origin.name)}, which is attached`,
    );
  }
  if (!origin.liveTable) throw refused(what, 'it has no table');
  const lines = await dm.table(origin.name, false);
  if (lines.some(({ type }) => type === TARGET)) throw refused(what, 'it is attached already');
  for (const { type } of lines) {
    const refusal = refusalOf(type);
    if (refusal !== undefined) throw refused(what, refusal);
  }
  if (origin.suspended) {
    throw refused(what, 'it is suspended; who did that has to resume it first ("dmsetup resume")');
  }
  if (nameTooLong(origin)) throw refused(what, `its name is too long for a device "${lowerName('NAME')}"`);
}

/** Whatever is in the way of the lower device and of the new table. */
async function clearTheWay(origin: NativeDmInfo, what: Doing, dm: NativeDeviceMapper): Promise<void> {
  await removeLeftovers({ origin, lower: await lowerOf(origin, dm) }, what, dm);
  const stranger = await dm.info({ name: lowerName(origin.name) });
  if (stranger !== null) {
    throw refused(what, `there is a device ${stranger.name}, which Snapbak did not make; rename it`);
  }
  if ((await dm.info({ name: origin.name }))?.inactiveTable) {
    throw refused(
      what,
      `another program is changing it: it has an inactive table; if none is, "dmsetup clear ${origin.name}" forgets that`,
    );
  }
}

/** The module is loaded, or the kernel loads it now. */
async function expectTarget(what: Doing, dm: NativeDeviceMapper): Promise<void> {
  if ((await dm.targetVersion(TARGET)) !== null) return;
  throw refused(
    what,
    'the kernel module dm-snapbak is not loaded, and the kernel found none to load; ' +
      '"snapbak module install" makes it, "snapbak doctor" says what is missing',
    'ERR_SNAPBAK_MISSING',
  );
}

async function createOver(
  number: string,
  name: string,
  what: Doing,
  dm: NativeDeviceMapper,
): Promise<Attachment> {
  const device = deviceId(number);
  what.name = name;
  if ((await dm.info({ name })) !== null) {
    throw refused(what, `there is a device /dev/mapper/${name} already; take another name`);
  }
  const below = await dm.info({ device });
  if (below !== null && isLower(below)) {
    throw refused(
      what,
      `it is the lower device of /dev/mapper/${originName(below.name)}; "snapbak detach" it first`,
    );
  }
  await expectTarget(what, dm);
  const outcome = await dm.create({ name, uuid: createdUuid(name), target: TARGET, device });
  if (outcome.errno !== 0) throw outcomeFailure(outcome, what);
  const [line] = await dm.table(name, false);
  return { device: `/dev/mapper/${name}`, size: line?.length ?? 0, stoppedMs: 0 };
}
