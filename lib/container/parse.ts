/**
 * Containers as people write them on a command line.
 */
import { formatSize, parseSize, show } from '../extent.js';
import { type Container, DEFAULT_MEMORY } from './container.js';
import { deviceContainer } from './device-container.js';
import { fileContainer } from './file-container.js';
import { memoryContainer } from './memory-container.js';
import { tieredContainer } from './tiered-container.js';

/**
 * The container that texts name: `memory:SIZE`, `file:PATH:SIZE` or
 * `device:PATH`, or one of memory and any number of the others together, which
 * are used in their order. Without `memory:`, 64 MiB of memory come before them.
 *
 * @param force a device may hold a file system, LVM or RAID
 * @throws TypeError for what is no text; RangeError that says what is wrong with it
 * @example
 * parseContainer('memory:256M')
 * parseContainer(['memory:256M', 'file:/nvme/container:10G', 'device:/dev/sdb1'])
 */
export function parseContainer(text: string | readonly string[], { force = false } = {}): Container {
  let memory: number | undefined;
  const seconds: string[] = [];
  for (const part of Array.isArray(text) ? (text as string[]) : [text as string]) {
    if (typeof part !== 'string') throw new TypeError(`container must be a string, got ${show(part)}`);
    if (part.startsWith('memory:')) {
      if (memory !== undefined) throw new RangeError('container: memory:SIZE is given twice');
      memory = size(part, part.slice('memory:'.length));
      if (memory === 0) throw wrong(part, 'memory must be above 0');
    } else {
      seconds.push(part);
    }
  }
  if (seconds.length === 0) {
    if (memory === undefined) throw new RangeError(`container must not be empty; ${FORMS}`);
    return memoryContainer(memory);
  }
  const tiers = seconds.map((part) => secondTier(part, memory ?? DEFAULT_MEMORY, force));
  return tiers.length === 1 ? tiers[0]! : tieredContainer(tiers);
}

const FORMS = `expected memory:SIZE, file:PATH:SIZE or device:PATH, e.g. memory:${formatSize(DEFAULT_MEMORY).replace(' ', '')}`;

function secondTier(part: string, memory: number, force: boolean): Container {
  if (part.startsWith('device:')) {
    const path = part.slice('device:'.length);
    if (path === '') throw wrong(part, 'the path is missing');
    return deviceContainer(path, { memory, force });
  }
  if (!part.startsWith('file:')) throw wrong(part, FORMS);
  const colon = part.lastIndexOf(':'); // a path may hold colons, a size does not
  const path = part.slice('file:'.length, colon);
  if (colon < 'file:'.length || path === '') throw wrong(part, 'expected file:PATH:SIZE');
  const bytes = size(part, part.slice(colon + 1));
  if (bytes === 0) throw wrong(part, 'the size must be above 0');
  return fileContainer(path, bytes, { memory });
}

function size(part: string, text: string): number {
  try {
    return parseSize(text);
  } catch (error) {
    throw wrong(part, (error as Error).message);
  }
}

function wrong(part: string, why: string): RangeError {
  return new RangeError(`not a container: ${show(part)}: ${why}`);
}
