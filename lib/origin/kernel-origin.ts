/**
 * An origin that the kernel driver serves: a device-mapper device with a
 * `snapbak` table. Its file systems stay mounted.
 */
import type { NativeBinding, NativeSession } from '../binding.js';
import { SnapbakError } from '../errors.js';
import { deviceId, type Host, type RequestTotals } from '../host.js';
import { mountsOn } from '../placement.js';
import { AnyOrigin } from './any-origin.js';

export class KernelOrigin extends AnyOrigin {
  size = 0;
  /** `MAJOR:MINOR` */
  readonly #number: string;
  readonly #native: NativeBinding;
  readonly #host: Host;

  private constructor(spec: string, number: string, native: NativeBinding, host: Host) {
    super(spec);
    this.#number = number;
    this.#native = native;
    this.#host = host;
  }

  /** @param path of a node, or of a link to one, as the user names it */
  static async open(path: string, native: NativeBinding, host: Host): Promise<KernelOrigin> {
    const identity = await host.identify(path);
    if (identity === undefined) throw unusable(path, 'there is no such device, or it may not be seen');
    const number = identity.blockDevice;
    if (number === undefined) {
      throw unusable(
        path,
        `it is no block device; serve an image by "snapbak serve ${path} --socket NBD --control CONTROL" ` +
          'and name unix:CONTROL',
      );
    }
    const name = (await host.blockDevice(number))?.name;
    if (name !== undefined && !/^dm-\d+$/.test(name)) {
      throw unusable(
        path,
        'it is no device-mapper device, and only such can be attached while they are mounted; unmounted, it ' +
          `is put behind one by "snapbak attach --create NAME ${path}", and then /dev/mapper/NAME is the origin`,
      );
    }
    const origin = new KernelOrigin(path, number, native, host);
    origin.size = (await origin.askStatus('open the origin')).size;
    return origin;
  }

  protected newSession(): NativeSession {
    return this.#native.createSession({ device: deviceId(this.#number) });
  }

  /**
   * START freezes the file systems on the origin, and a freeze writes what is
   * dirty while applications wait. Written before, that is little. What cannot
   * be written here is START's to report.
   */
  override async writeDirtyPages(): Promise<void> {
    const mounts = await mountsOn(this.#number, this.#host);
    await Promise.allSettled(mounts.map(({ mountPoint }) => this.#native.syncFileSystem(mountPoint)));
  }

  /** Only applications ask this device; the sweep reads from the one below it. */
  override async requestTotals(): Promise<RequestTotals | undefined> {
    return this.#host.requestTotals(this.#number);
  }

  async close(): Promise<void> {
    this.closed = true;
  }
}

function unusable(path: string, reason: string): SnapbakError {
  return new SnapbakError('ERR_SNAPBAK_ORIGIN', `cannot open the origin: ${path}: ${reason}`, { path });
}
