/**
 * Takes the kernel driver away from a device, in whatever state other programs
 * or a killed attachment have left it. Each thing that it does leaves the device
 * whole, so that it may be stopped anywhere and be called again.
 */
import { expectOptions, expectType } from '../arguments.js';
import { binding, type NativeBinding, type NativeDmInfo, type NativeDmOutcome } from '../binding.js';
import { errnoName } from '../errors.js';
import { deviceId, type Host, thisHost } from '../host.js';
import { fromNative, isNativeError } from '../native-errors.js';
import { type AttachWorld, expectPath, layerOf } from './attach.js';
import { type Doing, outcomeFailure, refused, requestFailure } from './failure.js';
import { isAttached, lowerOf, removeLeftovers } from './leftovers.js';
import { isLower, isPrivate, lowerName, nameOfPath, originName, wasCreated } from './names.js';

/** How a device is detached. */
export interface DetachOptions {
  /** Also while a session runs on it: that session breaks. Default: false. */
  force?: boolean;
}

/** What became of the device. */
export interface Detachment {
  /** `/dev/mapper/NAME` */
  device: string;
  /**
   * - `restored`: it has the table again that it had before it was attached.
   * - `linear`: made by `create` and in use, it goes on as a plain copy of the device below it.
   * - `removed`: made by `create` and not in use, it is gone.
   * - `cleaned`: it was not attached any more; what an attachment had left behind is gone.
   */
  outcome: 'restored' | 'linear' | 'removed' | 'cleaned';
  /** How long writes stood still at most, milliseconds. */
  stoppedMs: number;
  /** The lower device is open somewhere; the kernel removes it when it is closed. */
  lowerInUse: boolean;
}

/**
 * Takes the kernel driver away again, without unmounting anything. Also clears
 * up after an attachment that was killed, or that LVM undid by giving the volume
 * a new table (`lvextend`), or whose device is gone.
 *
 * @param path as for `attachOrigin`; it may lead nowhere any more.
 * @throws TypeError for arguments that are no such path.
 * @throws SnapbakError `ERR_SNAPBAK_BUSY` while a session runs on the device
 * (unless `force`), `ERR_SNAPBAK_ATTACH` if it is not attached, or a step
 * failed: the device stays attached then. `ERR_SNAPBAK_PERMISSION` for all but
 * root, `ERR_SNAPBAK_MISSING` without libdevmapper.
 */
export async function detachOrigin(
  path: string,
  options: DetachOptions = {},
  world: Partial<AttachWorld> = {},
): Promise<Detachment> {
  expectPath(path);
  expectOptions('options', options, ['force']);
  const { force = false } = options;
  expectType('options.force', force, 'boolean');
  const { native = binding(), host = thisHost } = world;
  const what: Doing = { doing: 'detach', path };
  try {
    const { name, origin, lower } = await find(path, what, native, host);
    what.name = name;
    const result = { device: `/dev/mapper/${name}`, stoppedMs: 0, lowerInUse: false };
    if (origin !== null && (await isAttached(origin, native.deviceMapper))) {
      if (!force) await expectNoSession(origin, what, native);
      return { ...result, ...(await detach(origin, lower, what, native)) };
    }
    if (!(await removeLeftovers({ origin, lower }, what, native.deviceMapper))) {
      throw refused(what, 'it is not attached');
    }
    return { ...result, outcome: 'cleaned' };
  } catch (error) {
    throw requestFailure(error, what);
  }
}

interface Found {
  name: string;
  origin: NativeDmInfo | null;
  /** What attaching made below it. */
  lower: NativeDmInfo | null;
}

async function find(path: string, what: Doing, native: NativeBinding, host: Host): Promise<Found> {
  const dm = native.deviceMapper;
  const number = (await host.identify(path))?.blockDevice;
  const named = number === undefined ? nameOfPath(path) : undefined;
  const found =
    number !== undefined
      ? await dm.info({ device: deviceId(number) })
      : named !== undefined
        ? await dm.info({ name: named })
        : null;
  if (found !== null && isLower(found)) {
    const name = originName(found.name);
    return { name, origin: await dm.info({ name }), lower: found };
  }
  if (found !== null) return { name: found.name, origin: found, lower: await lowerOf(found, dm) };
  if (named !== undefined) {
    const lower = await dm.info({ name: lowerName(named) });
    if (lower !== null && isLower(lower)) return { name: named, origin: null, lower };
    throw refused(what, 'there is no such device, and no lower device of it', 'ERR_SNAPBAK_ORIGIN');
  }
  throw refused(
    what,
    number === undefined ? 'there is no such device' : 'it is no device-mapper device, so it is not attached',
    'ERR_SNAPBAK_ORIGIN',
  );
}

/** A session that begins after this is broken by the kernel, as with `force`. */
async function expectNoSession(origin: NativeDmInfo, what: Doing, native: NativeBinding): Promise<void> {
  const session = native.createSession({ device: origin.device });
  try {
    const { state } = await session.status();
    if (state !== 'ready' && state !== 'armed') return;
  } catch (error) {
    // it has no session, or nobody can have one
    if (isNativeError(error) && ['ENODEV', 'ENOENT', 'ENXIO'].includes(errnoName(error.errno))) return;
    throw fromNative(error, { path: what.path, doing: 'ask for a session on the device' });
  } finally {
    await session.close().catch(() => {});
  }
  throw refused(
    what,
    'a backup of it is running; wait for its end, or break it: "snapbak detach --force"',
    'ERR_SNAPBAK_BUSY',
  );
}

async function detach(
  origin: NativeDmInfo,
  lower: NativeDmInfo | null,
  what: Doing,
  native: NativeBinding,
): Promise<Pick<Detachment, 'outcome' | 'stoppedMs' | 'lowerInUse'>> {
  const dm = native.deviceMapper;
  const deps = await dm.deps(origin.name);
  const done = (outcome: Detachment['outcome'], native: NativeDmOutcome) => {
    if (native.errno !== 0) throw outcomeFailure(native, what);
    return { outcome, stoppedMs: native.stoppedNs / 1e6, lowerInUse: native.lowerLeft };
  };
  if (lower !== null && deps.includes(lower.device)) {
    return done('restored', await dm.detach({ ...layerOf(origin), lowerName: lower.name }));
  }
  if (origin.openCount === 0 && wasCreated(origin)) {
    try {
      await dm.remove(origin.name);
      return { outcome: 'removed', stoppedMs: 0, lowerInUse: false };
    } catch (error) {
      // somebody was faster
      if (!isNativeError(error) || errnoName(error.errno) !== 'EBUSY') throw error;
    }
  }
  return done('linear', await dm.makeLinear(origin.name, isPrivate(origin.uuid)));
}
