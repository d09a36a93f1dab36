/**
 * A file system that a program never stops writing to, and copies of its device
 * as of one instant each: the image lies on an xfs, whose reflinks are atomic.
 */
import type { ChildProcess } from 'node:child_process';
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import type { BlockList } from '../../lib/blocks/block-list.js';
import { Cleanup } from './cleanup.js';
import { freeByKernel } from './fsmap.js';
import { ended, must, run, start, until } from './programs.js';
import { churnArguments, emptyImage } from './used-image.js';

export interface LiveFsOptions {
  mkfs: string[];
  /** Of mkfs, besides those of this process. */
  env?: Record<string, string>;
  /** Of the mount. */
  options: string;
  /** For each copy. */
  freeze: boolean;
  /** Bytes of the image. */
  size: number;
  seed: number;
}

/** The device as of one instant. */
export interface LiveClone {
  path: string;
  /** What the kernel said to be free then, where it was frozen. */
  free: BlockList | undefined;
}

/** What the writer says of changes before each copy: a dot for twenty. */
const DOTS = 4;

export class LiveFs {
  #clones = 0;
  /** So far. */
  #dots = 0;

  private constructor(
    private readonly image: string,
    private readonly folder: string,
    /** Where it is frozen. */
    private readonly frozenAt: string | undefined,
    private readonly writer: ChildProcess,
    private readonly cleanup: Cleanup,
  ) {
    writer.stdout?.on('data', (text: string) => {
      this.#dots += text.length;
    });
  }

  /** @param outer a mounted xfs with reflinks */
  static async start(
    outer: string,
    { mkfs, env, options, size, seed, freeze }: LiveFsOptions,
  ): Promise<LiveFs> {
    const cleanup = new Cleanup();
    try {
      const folder = join(outer, `live-${seed}`);
      mkdirSync(folder);
      cleanup.defer(`remove ${folder}`, () => must('rm', ['-rf', folder]));
      const image = emptyImage(join(folder, 'image'), size);
      await must(mkfs[0]!, [...mkfs.slice(1), image], env === undefined ? {} : { env });
      const mountPoint = join(folder, 'mnt');
      mkdirSync(mountPoint);
      await must('mount', ['-o', `loop,${options}`, image, mountPoint]);
      cleanup.defer(`unmount ${mountPoint}`, async () => {
        await must('umount', [mountPoint]);
      });
      const writer = start(process.execPath, churnArguments(mountPoint, seed));
      const gone = ended(writer);
      gone.catch(() => {});
      cleanup.defer('end the writer', async () => {
        writer.kill('SIGKILL');
        await gone;
      });
      return new LiveFs(image, folder, freeze ? mountPoint : undefined, writer, cleanup);
    } catch (error) {
      await cleanup.run().catch(() => {});
      throw error;
    }
  }

  /**
   * The device as of some moment from now on, in a file of its own. The writer does
   * not pause for it; it rests from then on until the next, or it would do nothing
   * but take the time of who looks at the copy.
   */
  async clone(): Promise<LiveClone> {
    const path = join(this.folder, `clone-${this.#clones++}`);
    this.writer.kill('SIGCONT');
    // a quarter of the files is synced: the log has something in it then
    const goal = this.#dots + DOTS;
    const gone = () => {
      if (this.writer.exitCode !== null) throw new Error('the writer ended');
      return this.#dots >= goal;
    };
    await until('the writer has gone on', gone, 120_000);
    if (this.frozenAt !== undefined) await must('fsfreeze', ['-f', this.frozenAt]);
    try {
      await must('cp', ['--reflink=always', this.image, path]);
      const free = this.frozenAt === undefined ? undefined : await freeByKernel(this.frozenAt);
      return { path, free };
    } finally {
      if (this.frozenAt !== undefined) await must('fsfreeze', ['-u', this.frozenAt]);
      this.writer.kill('SIGSTOP');
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.cleanup.run();
  }
}

/** Mounts a new xfs with reflinks, to hold images. */
export async function reflinkFolder(cleanup: Cleanup, size: number): Promise<string> {
  const folder = cleanup.folder('reflink');
  const image = emptyImage(join(folder, 'xfs'), size);
  await must('mkfs.xfs', ['-q', '-m', 'reflink=1', image]);
  const outer = join(folder, 'outer');
  mkdirSync(outer);
  await must('mount', ['-o', 'loop', image, outer]);
  cleanup.defer(`unmount ${outer}`, async () => {
    // loop devices over what it holds let go of it a moment later
    const unmounted = until('unmounted', async () => (await run('umount', [outer])).code === 0, 5000);
    await unmounted.catch(() => must('umount', ['-l', outer]));
  });
  return outer;
}
