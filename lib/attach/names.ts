/**
 * The names of the lower device that attaching makes below an origin. Its
 * content is the origin's, so nobody may find it by what is on it: its UUID has
 * the form by which LVM and libblkid know a private layer of LVM, `LVM-…-SUFFIX`
 * of more than 69 characters (lib/activate/dev_manager.c of LVM2,
 * lib/sysfs.c of util-linux), and pass it over.
 */
import type { NativeDmInfo } from '../binding.js';

const SUFFIX = '-snapbak';
const LVM = 'LVM-';
const FOREIGN = 'LVM-SNAPBAK-';

/** DM_NAME_LEN and DM_UUID_LEN without the terminating zero. */
const LONGEST = 127;
const LONGEST_UUID = 128;
/** What follows FOREIGN at least, that LVM takes it for a layer's. */
const SHORTEST_ID = 50;

/** `NAME-snapbak` */
export function lowerName(name: string): string {
  return `${name}${SUFFIX}`;
}

/**
 * The lower device's UUID. Of an LVM volume it is that of a layer of this
 * volume, so that `lvchange -an` takes the lower device away, too.
 */
export function lowerUuid({ name, uuid }: Pick<NativeDmInfo, 'name' | 'uuid'>): string {
  if (uuid.startsWith(LVM)) return `${uuid}${SUFFIX}`;
  const fits = (id: string) => FOREIGN.length + id.length + SUFFIX.length <= LONGEST_UUID;
  const id = uuid !== '' && fits(uuid) ? uuid : name;
  return `${FOREIGN}${id.padEnd(SHORTEST_ID, '_')}${SUFFIX}`;
}

/** Whether a device of this name can have no lower device. */
export function nameTooLong(device: Pick<NativeDmInfo, 'name' | 'uuid'>): boolean {
  return lowerName(device.name).length > LONGEST || lowerUuid(device).length > LONGEST_UUID;
}

/** Whether it was made by attaching. */
export function isLower({ name, uuid }: Pick<NativeDmInfo, 'name' | 'uuid'>): boolean {
  return name.endsWith(SUFFIX) && uuid.startsWith(LVM) && uuid.endsWith(SUFFIX);
}

/** Whose lower device it is. */
export function originName(lower: string): string {
  return lower.slice(0, -SUFFIX.length);
}

/** The UUID of a device that `attachOrigin` makes with `create`. */
export function createdUuid(name: string): string {
  return `SNAPBAK-${name}`;
}

/** Whether it was made so. */
export function wasCreated({ uuid }: Pick<NativeDmInfo, 'uuid'>): boolean {
  return uuid.startsWith('SNAPBAK-');
}

/** A private layer: udev leaves it alone, and has to go on doing so. */
export function isPrivate(uuid: string): boolean {
  return /^LVM-[^-]+-./.test(uuid) || uuid.startsWith('CRYPT-SUBDEV');
}

/**
 * The name of the device that a path in /dev/mapper or of LVM would lead to, for
 * a path that leads nowhere any more.
 */
export function nameOfPath(path: string): string | undefined {
  const mapper = /^\/dev\/mapper\/([^/]+)$/.exec(path)?.[1];
  if (mapper !== undefined) return mapper;
  const volume = /^\/dev\/([^/]+)\/([^/]+)$/.exec(path);
  if (volume === null) return undefined;
  const [, group = '', name = ''] = volume;
  return `${group.replaceAll('-', '--')}-${name.replaceAll('-', '--')}`;
}

/** Whether device-mapper takes it as a name for a new device. */
export function isDeviceName(name: string): boolean {
  return name.length <= LONGEST && /^[A-Za-z0-9#+.:=@_][A-Za-z0-9#+\-.:=@_]*$/.test(name);
}
