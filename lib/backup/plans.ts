/**
 * What is to be backed up of each origin: the options that one origin or
 * several come with, as one list.
 */
import { expectMethod, expectOptions, expectType } from '../arguments.js';
import { BlockList } from '../blocks/block-list.js';
import type { Container } from '../container/container.js';
import { tieredContainer } from '../container/tiered-container.js';
import { show } from '../extent.js';
import type { Origin } from '../origin.js';
import { type CheckedClone, checkClone } from './clone-options.js';
import type { BackupOptions } from './options.js';

/** An origin among several, with what is its own. */
export interface OriginPlan {
  origin: Origin;
  /**
   * What its part of the backup is called, and its files: from 1 to 80 letters,
   * digits, dots, dashes and underscores, the first of them a letter or a digit.
   * Default: the last part of the origin's path, made unique by a number
   */
  name?: string;
  /** What of it is in the backup. Default: what the backup's option says. */
  blocks?: BlockList | 'used' | 'all';
  /** Where its captured blocks wait. Default: memory, a 64th of it, 4 to 64 MiB. */
  container?: Container | readonly Container[];
}

/** The same, checked. */
export interface DiskPlan {
  /** Unique in the backup; of a backup with `origin` the empty string. */
  name: string;
  origin: Origin;
  /** Undefined: nobody said anything, which means `used`. */
  blocks: BlockList | 'used' | 'all' | undefined;
  container: Container | undefined;
  clone?: CheckedClone | undefined;
}

/** What the name of a disk may be: with `.checksums` behind it still a plain file name. */
export const DISK_NAME = /^[A-Za-z0-9][A-Za-z0-9._-]{0,79}$/;

/** Each has a thread, memory and a control descriptor; the kernel driver starts so many at once. */
export const MAX_DISKS = 64;

/** @throws TypeError or RangeError that names the option and the value. */
export function checkPlans(options: BackupOptions): DiskPlan[] {
  const { origin, origins } = options;
  if (origins === undefined) {
    const clone = checkClone(options.clone);
    return [{ name: '', origin: checkedOrigin('options.origin', origin), ...own('options', options), clone }];
  }
  if (origin !== undefined) {
    throw new TypeError('options.origin and options.origins must not both be given');
  }
  if (!Array.isArray(origins)) throw new TypeError(`options.origins must be a list, not ${show(origins)}`);
  if (origins.length === 0) throw new RangeError('options.origins must not be empty');
  if (origins.length > MAX_DISKS) {
    throw new RangeError(`options.origins must be at most ${MAX_DISKS}, not ${origins.length}`);
  }
  const { blocks } = own('options', options);
  if (blocks instanceof BlockList) {
    throw new TypeError(
      'options.blocks must be used or all, or part of an element of options.origins: each is another device',
    );
  }
  if (options.container !== undefined) {
    throw new TypeError(
      'options.container must be part of the elements of options.origins: each needs its own',
    );
  }
  if (options.export !== undefined) {
    throw new TypeError(
      'options.export must not be given with options.origins; use view(disk) and its export()',
    );
  }
  if (options.clone !== undefined) {
    throw new TypeError('options.clone must not be given with options.origins: it is a clone of one device');
  }
  const plans = (origins as readonly (Origin | OriginPlan)[]).map((element, i) =>
    checkedPlan(`options.origins[${i}]`, element, blocks),
  );
  distinct(plans);
  return named(plans);
}

type NamelessPlan = Omit<DiskPlan, 'name'> & { name: string | undefined };

function checkedPlan(where: string, element: Origin | OriginPlan, blocks: DiskPlan['blocks']): NamelessPlan {
  expectType(where, element, 'object');
  if (typeof (element as Partial<Origin>).createSession === 'function') {
    return { name: undefined, origin: element as Origin, blocks, container: undefined };
  }
  const plan = element as OriginPlan;
  expectOptions(where, plan, ['origin', 'name', 'blocks', 'container']);
  if (plan.name !== undefined) {
    expectType(`${where}.name`, plan.name, 'string');
    if (!DISK_NAME.test(plan.name)) {
      throw new RangeError(
        `${where}.name must be a plain file name of at most 80 characters, not ${show(plan.name)}`,
      );
    }
  }
  const mine = own(where, plan);
  return {
    name: plan.name,
    origin: checkedOrigin(`${where}.origin`, plan.origin),
    blocks: mine.blocks ?? blocks,
    container: mine.container,
  };
}

function checkedOrigin(where: string, origin: Origin | undefined): Origin {
  expectMethod(where, origin, 'createSession', 'an origin, of openOrigin or openEmbedded');
  return origin as Origin;
}

function own(
  where: string,
  given: Pick<OriginPlan, 'blocks' | 'container'>,
): Pick<DiskPlan, 'blocks' | 'container'> {
  const { blocks } = given;
  const container = Array.isArray(given.container)
    ? tieredContainer(given.container)
    : (given.container as Container | undefined);
  if (container !== undefined) {
    expectMethod(`${where}.container`, container, 'open', 'a container, e.g. memoryContainer(bytes)');
  }
  if (blocks !== undefined && blocks !== 'used' && blocks !== 'all' && !(blocks instanceof BlockList)) {
    throw new TypeError(`${where}.blocks must be a BlockList, 'used' or 'all', not ${show(blocks)}`);
  }
  return { blocks, container };
}

/** The same device under two names is told by its driver; the same object here. */
function distinct(plans: readonly NamelessPlan[]): void {
  const seen = new Set<Origin>();
  for (const [i, { origin }] of plans.entries()) {
    if (seen.has(origin)) throw new RangeError(`options.origins[${i}] is there twice: ${origin.spec}`);
    seen.add(origin);
  }
}

/** Names that were given stay; the others are made of the origins' paths. */
function named(plans: readonly NamelessPlan[]): DiskPlan[] {
  const taken = new Set<string>();
  for (const [i, { name }] of plans.entries()) {
    if (name === undefined) continue;
    if (taken.has(name)) throw new RangeError(`options.origins[${i}].name must be unique, not ${name} again`);
    taken.add(name);
  }
  return plans.map((plan) => {
    if (plan.name !== undefined) return { ...plan, name: plan.name };
    const base = nameOf(plan.origin.spec);
    let name = base;
    for (let n = 2; taken.has(name); n++) name = `${base}-${n}`;
    taken.add(name);
    return { ...plan, name };
  });
}

/** `vg-data` of `/dev/mapper/vg-data`, `vm1` of `unix:/run/vm1.control` and of `embedded:vm1.img`. */
export function nameOf(spec: string): string {
  const last = spec.slice(spec.search(/[^/:]*\/*$/)).replace(/\/+$/, '');
  const plain = last
    .replace(/(?<=.)\.(img|raw|control|ctl|sock|socket)$/, '')
    .replaceAll(/[^A-Za-z0-9._-]/g, '-')
    .replace(/^[^A-Za-z0-9]+/, '');
  return plain.slice(0, 70) || 'disk'; // room for a number
}
