/**
 * What `snapbak backup` is told of its origins: one, or several, each with its
 * name, its block list and its part of the container.
 */
import type { BackupOptions, OriginPlan } from '../backup.js';
import { BlockList } from '../blocks/block-list.js';
import type { Container } from '../container/container.js';
import { memoryContainer } from '../container/memory-container.js';
import { parseContainer } from '../container/parse.js';
import { parseSize } from '../extent.js';
import { type Origin, openOrigin } from '../origin.js';

/** The flags that are about origins. */
export interface OriginFlags {
  container?: string[];
  blocks?: string;
  targetDevice?: string;
  export?: string;
  cloneTo?: string;
  force?: boolean;
}

/** One of them, not open yet. */
interface Named {
  spec: string;
  name?: string;
}

export interface WhatOfOrigins {
  origins: Named[];
  several: boolean;
  blocks?: BlockList | 'used' | 'all';
  /** Makes one for each. */
  container?: () => Container;
}

/**
 * Checks it all, and opens nothing but a file with a block list.
 *
 * @param texts `ORIGIN` or `NAME=ORIGIN`
 * @throws RangeError for what does not go together: wrong use
 */
export async function whatOfOrigins(texts: readonly string[], flags: OriginFlags): Promise<WhatOfOrigins> {
  const origins = texts.map(named);
  const several = origins.length > 1 || origins[0]?.name !== undefined;
  const what: WhatOfOrigins = { origins, several };
  if (several) {
    for (const [option, value] of [
      ['--target-device', flags.targetDevice],
      ['--export', flags.export],
      ['--clone-to', flags.cloneTo],
    ]) {
      if (value !== undefined) throw new RangeError(`${option} is for a backup of one origin`);
    }
    if (flags.blocks !== undefined && !isWord(flags.blocks)) {
      throw new RangeError('a file for --blocks is for a backup of one origin: each is another device');
    }
  }
  if (flags.container !== undefined) what.container = containers(flags, several ? origins.length : 1);
  const { blocks } = flags;
  if (blocks !== undefined) what.blocks = isWord(blocks) ? blocks : await BlockList.fromFile(blocks);
  return what;
}

/** A file called `used` is given as `./used`. */
function isWord(blocks: string): blocks is 'used' | 'all' {
  return blocks === 'used' || blocks === 'all';
}

/** Neither `/dev/…` nor `unix:…` can begin like a name with `=` behind it. */
function named(text: string): Named {
  const [, name, spec] = /^([A-Za-z0-9][A-Za-z0-9._-]*)=((?:\/|unix:).*)$/s.exec(text) ?? [];
  return spec === undefined ? { spec: text } : { spec, name: name! };
}

/** Memory is split evenly; a file or a device is one origin's. */
function containers({ container: texts = [], force = false }: OriginFlags, shares: number): () => Container {
  if (shares === 1) {
    const one = parseContainer(texts, { force });
    return () => one;
  }
  const [text, ...others] = texts;
  if (others.length > 0 || !text?.startsWith('memory:')) {
    throw new RangeError(
      'of several origins, --container takes memory:SIZE only, which is split evenly among them; ' +
        'a file or a device for each is for programs: see OriginPlan.container',
    );
  }
  parseContainer(text); // says what is wrong with it
  const share = Math.max(1, Math.floor(parseSize(text.slice('memory:'.length)) / shares));
  return () => memoryContainer(share);
}

/** Origins that are open, as options of `startBackup`; closed together. */
export async function openOrigins(
  { origins, several, blocks, container }: WhatOfOrigins,
  open: (spec: string) => Promise<Origin> = openOrigin,
): Promise<
  { options: Pick<BackupOptions, 'origin' | 'origins' | 'blocks' | 'container'> } & AsyncDisposable
> {
  const opened: OriginPlan[] = [];
  const close = async () => {
    for (const { origin } of opened.splice(0)) await origin.close();
  };
  try {
    for (const { spec, name } of origins) {
      opened.push({
        origin: await open(spec),
        ...(name === undefined ? {} : { name }),
        ...(blocks === undefined ? {} : { blocks }),
        ...(container === undefined ? {} : { container: container() }),
      });
    }
  } catch (error) {
    await close();
    throw error;
  }
  return {
    options: several ? { origins: [...opened] } : opened[0]!,
    [Symbol.asyncDispose]: close,
  };
}
