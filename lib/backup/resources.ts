/**
 * What a backup holds open, and giving it back in the order that is safe: the
 * copy threads end first, because they use the target and the container.
 */

import type { NativeOriginInfo, NativeSession, NativeTarget } from '../binding.js';
import type { BlockList } from '../blocks/block-list.js';
import type { OpenContainer } from '../container/container.js';
import type { PreparedTarget } from '../target/target.js';
import type { RunningClone } from './clone.js';
import type { BackupView } from './view.js';

export interface Resources {
  /** What NBD clients are shown of the session, where that was asked for. */
  exported?: { view: BackupView; uri: string } | undefined;
  /** The second device, where that was asked for. */
  clone?: RunningClone | undefined;
  session: NativeSession;
  info: NativeOriginInfo;
  container: OpenContainer;
  target: PreparedTarget;
  /** Its native face, which remembers what it threw. */
  nativeTarget: NativeTarget;
  /** The target, for people. */
  targetName: string;
  /** What a target written in JavaScript threw last. */
  targetCause(): unknown;
  blockSize: number;
  /** Whole blocks. */
  list: BlockList;
}

/** Closes all that is there. Never throws: what matters was decided before. */
export async function release(held: Partial<Resources>): Promise<void> {
  const clone = { close: async () => held.clone?.release() };
  for (const part of [held.exported?.view, clone, held.session, held.target, held.container]) {
    try {
      await part?.close();
    } catch {
      // the others still have to be closed
    }
  }
}

/** The same target, with a memory of what it threw: an errno says too little. */
export function remembering(native: NativeTarget): { native: NativeTarget; cause(): unknown } {
  if ('fd' in native) return { native, cause: () => undefined };
  let cause: unknown;
  const remember = async (run: () => Promise<void> | void) => {
    try {
      await run();
    } catch (error) {
      cause = error;
      throw error;
    }
  };
  const { read } = native;
  return {
    native: {
      write: (offset, data) => remember(() => native.write(offset, data)),
      flush: () => remember(() => native.flush()),
      // what a view could not read ends no backup
      ...(read === undefined ? {} : { read: (offset, length) => read.call(native, offset, length) }),
    },
    cause: () => cause,
  };
}
