/**
 * Device-mapper in memory: devices with tables, and requests that do to them
 * what the kernel would, or fail where a test says so.
 */
import type {
  NativeDeviceMapper,
  NativeDmInfo,
  NativeDmLayer,
  NativeDmLine,
  NativeDmOutcome,
} from '../../lib/binding.js';
import { dev } from './fake-host.js';
import { nativeError } from './fake-session.js';

/** The major number of device-mapper here. */
export const DM = 253;

interface Table {
  lines: NativeDmLine[];
  /** Device numbers below. */
  below: number[];
}

interface Device {
  name: string;
  uuid: string;
  device: number;
  /** Opened by programs and mounts. */
  opened: number;
  suspended: boolean;
  readOnly: boolean;
  live: Table | null;
  inactive: Table | null;
}

/** A table of one line. */
export function oneLine(type: string, ...below: number[]): Table {
  return { lines: [{ offset: 0, length: 2 ** 30, type }], below };
}

export function outcome(parts: Partial<NativeDmOutcome> = {}): NativeDmOutcome {
  return {
    errno: 0,
    step: '',
    undoErrno: 0,
    undoStep: '',
    suspended: false,
    lowerLeft: false,
    stoppedNs: 0,
    ...parts,
  };
}

export class FakeDeviceMapper implements NativeDeviceMapper {
  readonly devices: Device[] = [];
  /** Every request that changes something, in order. */
  readonly calls: string[] = [];
  /** Targets that the kernel has. */
  targets = new Map([['snapbak', '1.0.0']]);
  /** What the next attach, detach, create or makeLinear answers instead of being done. */
  failing: NativeDmOutcome | undefined;
  /** What every request throws. */
  broken: Error | undefined;
  #minor = 0;

  add(name: string, parts: Partial<Device> = {}): Device {
    const device = {
      name,
      uuid: '',
      device: dev(DM, this.#minor++),
      opened: 0,
      suspended: false,
      readOnly: false,
      live: oneLine('linear', dev(8, 1)),
      inactive: null,
      ...parts,
    };
    this.devices.push(device);
    return device;
  }

  installed(): boolean {
    return true;
  }

  async info(where: { device?: number; name?: string; uuid?: string }): Promise<NativeDmInfo | null> {
    if (this.broken !== undefined) throw this.broken;
    const found = this.devices.find(
      ({ device, name, uuid }) => device === where.device || name === where.name || uuid === where.uuid,
    );
    if (found === undefined) return null;
    const { name, uuid, device, suspended, readOnly, live, inactive } = found;
    return {
      ...{ name, uuid, device, suspended, readOnly },
      openCount: this.#openCount(found),
      liveTable: live !== null,
      inactiveTable: inactive !== null,
    };
  }

  async table(name: string, inactive: boolean): Promise<NativeDmLine[]> {
    const device = this.#must(name);
    return (inactive ? device.inactive : device.live)?.lines ?? [];
  }

  async deps(name: string): Promise<number[]> {
    return this.#must(name).live?.below ?? [];
  }

  async targetVersion(type: string): Promise<string | null> {
    return this.targets.get(type) ?? null;
  }

  async attach(layer: NativeDmLayer): Promise<NativeDmOutcome> {
    this.calls.push(`attach ${layer.origin} over ${layer.lowerName}${layer.hidden ? ' hidden' : ''}`);
    if (this.failing !== undefined) return this.failing;
    const origin = this.#must(layer.origin);
    const lower = this.add(layer.lowerName, { uuid: layer.lowerUuid, live: origin.live });
    origin.live = oneLine(layer.target, lower.device);
    return outcome({ stoppedNs: 1_500_000 });
  }

  async detach(layer: NativeDmLayer): Promise<NativeDmOutcome> {
    this.calls.push(`detach ${layer.origin} from ${layer.lowerName}`);
    if (this.failing !== undefined) return this.failing;
    const lower = this.#must(layer.lowerName);
    this.#must(layer.origin).live = lower.live;
    if (this.#openCount(lower) > 0) return outcome({ stoppedNs: 2_500_000, lowerLeft: true });
    this.devices.splice(this.devices.indexOf(lower), 1);
    return outcome({ stoppedNs: 2_500_000 });
  }

  async create(what: { name: string; uuid: string; target: string; device: number }) {
    this.calls.push(`create ${what.name} over ${what.device}`);
    if (this.failing !== undefined) return this.failing;
    this.add(what.name, { uuid: what.uuid, live: oneLine(what.target, what.device) });
    return outcome();
  }

  async makeLinear(name: string, hidden: boolean): Promise<NativeDmOutcome> {
    this.calls.push(`make ${name} linear${hidden ? ' hidden' : ''}`);
    if (this.failing !== undefined) return this.failing;
    const device = this.#must(name);
    device.live = oneLine('linear', ...device.live!.below);
    return outcome({ stoppedNs: 3_500_000 });
  }

  async remove(name: string): Promise<void> {
    this.calls.push(`remove ${name}`);
    const device = this.#must(name);
    if (this.#openCount(device) > 0) throw nativeError(16, 'device-mapper');
    this.devices.splice(this.devices.indexOf(device), 1);
  }

  async clear(name: string): Promise<void> {
    this.calls.push(`clear ${name}`);
    this.#must(name).inactive = null;
  }

  /** What stands on it holds it open, by a table that is loaded only, too. */
  #openCount({ device, opened }: Device): number {
    const above = this.devices.filter(({ live, inactive }) =>
      [live, inactive].some((table) => table?.below.includes(device)),
    );
    return opened + above.length;
  }

  #must(name: string): Device {
    const found = this.devices.find((device) => device.name === name);
    if (found === undefined) throw nativeError(6, 'device-mapper');
    return found;
  }
}
