/**
 * Opens a block device that Snapbak is about to overwrite (a target, a
 * container, where a backup is restored), after every check that keeps it from
 * being the wrong one.
 */
import { constants } from 'node:fs';
import { type FileHandle, open, stat } from 'node:fs/promises';
import type { NativeBinding } from './binding.js';
import type { SnapbakError } from './errors.js';
import { formatSize } from './extent.js';
import { deviceNumber, type Host, thisHost } from './host.js';
import { deviceDependence, isOrigin, type OriginPlace } from './placement.js';
import { systemCode, systemError } from './system-error.js';

/** What is asked of the device. */
export interface DeviceRequest {
  path: string;
  /** Bytes that it must have at least. */
  minimum: number;
  /** Overwrite a file system, LVM or RAID that it holds. */
  force: boolean;
  /** Open it with O_DIRECT. */
  direct: boolean;
  /** What it must not depend on. */
  origin?: OriginPlace | undefined;
  /** Nor on these: other origins of the same backup. */
  neighbours?: readonly OriginPlace[] | undefined;
  /** Makes the error of the caller's kind; `reason` continues "PATH …". */
  refuse(reason: string): SnapbakError;
  native: NativeBinding;
  host?: Host | undefined;
}

/** Open for reading and writing, and claimed: nobody can mount it meanwhile. */
export interface OpenDevice {
  file: FileHandle;
  /** Bytes. */
  size: number;
}

/** @throws what `refuse` makes, with the reason */
export async function openDevice(request: DeviceRequest): Promise<OpenDevice> {
  const { path, direct, origin, neighbours = [], refuse, host = thisHost } = request;
  const stats = await stat(path).catch((cause: unknown) => {
    throw refusal(refuse, 'cannot be used', cause);
  });
  if (!stats.isBlockDevice()) throw refuse('is no block device');
  // the kernel lets root open it for writing all the same
  if ((await host.blockDevice(deviceNumber(stats.rdev)))?.readOnly) throw refuse('is read-only');
  for (const one of origin === undefined ? neighbours : [origin, ...neighbours]) {
    if (await isOrigin(path, one, host))
      throw refuse(`is ${one === origin ? 'the' : 'another'} origin itself`);
    const dependence = await deviceDependence(path, one, host);
    if (dependence !== undefined) throw refuse(dependence);
  }
  // O_EXCL claims a block device: refused while anything has it mounted or assembled
  const flags = constants.O_RDWR | constants.O_EXCL | (direct ? constants.O_DIRECT : 0);
  const file = await open(path, flags).catch((cause: unknown) => {
    if (systemCode(cause) === 'EBUSY') {
      throw refuse('is in use: it is mounted, or part of LVM, RAID or another device');
    }
    throw refusal(refuse, 'cannot be written', cause);
  });
  try {
    // what was checked by name must be what was opened
    if ((await file.stat()).rdev !== stats.rdev) throw refuse('became another device while it was checked');
    return { file, size: checkContent(request, file.fd) };
  } catch (error) {
    await file.close();
    throw error;
  }
}

function checkContent({ path, minimum, force, refuse, native }: DeviceRequest, fd: number): number {
  let size: number;
  let signature: ReturnType<NativeBinding['probeSignature']>;
  try {
    size = native.deviceSize(fd);
    signature = force ? null : native.probeSignature(path);
  } catch (cause) {
    throw refusal(refuse, 'cannot be examined', cause);
  }
  if (size < minimum) {
    throw refuse(
      `is too small: ${size} bytes (${formatSize(size)}), needed are ${minimum} (${formatSize(minimum)})`,
    );
  }
  if (signature !== null) {
    throw refuse(`holds a ${signature.type} ${signature.usage} signature; with force it is overwritten`);
  }
  return size;
}

/** The caller's kind of error, with the system's reason behind it. */
function refusal(refuse: DeviceRequest['refuse'], reason: string, cause: unknown): SnapbakError {
  const { code, message, path } = refuse(reason);
  return systemError(code, message, cause, path);
}
