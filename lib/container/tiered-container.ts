/**
 * Several containers as one: the slots of the first, then all second tiers, in
 * order of preference.
 */
import { expectType } from '../arguments.js';
import { show } from '../extent.js';
import { type Container, type OpenContainer, refused } from './container.js';

/**
 * Captured blocks wait in the slots of the first container, and then in the
 * second tier of the first that has room, in the order of the list. When one
 * fails, the others go on. Memory that the later ones ask for is not taken.
 *
 * `startBackup` takes such a list as `container`, too.
 *
 * @throws TypeError or RangeError for what is no list of containers; `open()`:
 *   what theirs throw, and SnapbakError ERR_SNAPBAK_CONTAINER for one that has
 *   no second tier and is not the first
 * @example
 * tieredContainer([
 *   memoryContainer(256 * 2 ** 20),
 *   fileContainer('/nvme/container', 4 * 2 ** 30),
 *   deviceContainer('/dev/disk/by-id/usb-scratch-part1'),
 * ])
 */
export function tieredContainer(containers: readonly Container[]): Container {
  if (!Array.isArray(containers)) throw new TypeError(`containers must be a list, not ${show(containers)}`);
  for (const [i, container] of containers.entries()) {
    expectType(`containers[${i}]`, container, 'object');
    expectType(`containers[${i}].open`, container.open, 'function');
  }
  const [first, ...others] = containers as [Container?, ...Container[]];
  if (first === undefined) throw new RangeError('containers must not be empty');
  if (others.length === 0) return first;
  const seconds = others.map(({ second, description }) => second ?? description);
  return {
    description: [first.description, ...seconds].join(', then '),
    second: [first.second, ...seconds].filter((text) => text !== undefined).join(', then '),
    async open(context) {
      const opened: OpenContainer[] = [];
      try {
        for (const container of containers) {
          const behind = context.behind === true || opened.length > 0;
          const open = await container.open({ ...context, behind });
          opened.push(open);
          if (opened.length > 1 && (open.tiers ?? []).length === 0) {
            throw refused(`${container.description} has no second tier; memory comes first, and once`);
          }
        }
      } catch (error) {
        await closeAll(opened).catch(() => {}); // the error before is the one to tell
        throw error;
      }
      return {
        slots: opened[0]!.slots,
        tiers: opened.flatMap(({ tiers = [] }) => tiers),
        excluded: opened.flatMap(({ excluded = [] }) => excluded),
        close: () => closeAll(opened),
      };
    },
  };
}

/** All of them, whatever one says; the first that failed is told. */
async function closeAll(opened: readonly OpenContainer[]): Promise<void> {
  const closed = await Promise.allSettled(opened.map((container) => container.close()));
  for (const result of closed) if (result.status === 'rejected') throw result.reason;
}
