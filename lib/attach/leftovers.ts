/**
 * What is left of an attachment that was killed half-way, or that another
 * program undid by giving the device a new table: a table that was loaded and
 * never swapped in, a lower device on which nobody stands.
 */
import type { NativeDeviceMapper, NativeDmInfo } from '../binding.js';
import { type Doing, refused } from './failure.js';
import { isLower, lowerName, lowerUuid } from './names.js';
import { TARGET } from './targets.js';

/** Whether the kernel driver is under it now. */
export async function isAttached({ name }: NativeDmInfo, dm: NativeDeviceMapper): Promise<boolean> {
  const lines = await dm.table(name, false);
  return lines.length === 1 && lines[0]!.type === TARGET;
}

/** The lower device that was made for it, in use or not. */
export async function lowerOf(origin: NativeDmInfo, dm: NativeDeviceMapper): Promise<NativeDmInfo | null> {
  // first by what it stands on: somebody may have renamed it since
  const deps = (await isAttached(origin, dm)) ? await dm.deps(origin.name) : [];
  for (const where of [
    ...deps.map((device) => ({ device })),
    { uuid: lowerUuid(origin) },
    { name: lowerName(origin.name) },
  ]) {
    const found = await dm.info(where);
    if (found !== null && isLower(found)) return found;
  }
  return null;
}

/**
 * Clears up below a device that is not attached, or gone.
 *
 * @returns whether there was anything
 * @throws SnapbakError if the lower device is in use
 */
export async function removeLeftovers(
  { origin, lower }: { origin: NativeDmInfo | null; lower: NativeDmInfo | null },
  what: Doing,
  dm: NativeDeviceMapper,
): Promise<boolean> {
  let found = false;
  if (origin?.inactiveTable) {
    const lines = await dm.table(origin.name, true);
    if (lines.some(({ type }) => type === TARGET)) {
      await dm.clear(origin.name);
      found = true;
    }
  }
  if (lower === null) return found;
  const now = await dm.info({ name: lower.name });
  if (now !== null && now.openCount > 0) {
    throw refused(what, `a former attachment left the device ${lower.name} behind, and somebody uses it`);
  }
  if (now !== null) await dm.remove(lower.name);
  return true;
}
