/** A target written in JavaScript, as users write them: slow, failing in one of its methods, or silent. */
import { type FileHandle, mkdir, open, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { CustomTarget, Manifest } from '../../lib/index.js';
import type { Plan } from './plan.js';

/** Puts what it gets into `directory`, under the names that backups have. */
export async function scriptTarget(directory: string, plan: Plan): Promise<CustomTarget> {
  await mkdir(directory);
  const image = await open(join(directory, 'data.img'), 'w');
  await image.truncate(plan.size);
  const sums = plan.target.checksums ? await open(join(directory, 'checksums'), 'w') : undefined;
  return new ScriptTarget(directory, plan.target, image, sums);
}

class ScriptTarget implements CustomTarget {
  checksums?: (offset: number, data: Buffer) => Promise<void>;
  readonly #directory: string;
  readonly #plan: Plan['target'];
  readonly #image: FileHandle;
  readonly #sums: FileHandle | undefined;
  #writes = 0;

  constructor(directory: string, plan: Plan['target'], image: FileHandle, sums: FileHandle | undefined) {
    this.#directory = directory;
    this.#plan = plan;
    this.#image = image;
    this.#sums = sums;
    if (sums !== undefined) {
      this.checksums = async (offset, data) => {
        this.#fail('checksums');
        await writeAll(sums, data, offset);
      };
    }
  }

  async write(offset: number, data: Buffer): Promise<void> {
    this.#writes += 1;
    if (this.#writes >= this.#plan.at) {
      this.#fail('write');
      // a promise that nobody holds is no leak; the library has to live with it
      if (this.#plan.fails === 'silence') await new Promise(() => {});
    }
    if (this.#plan.delayMs > 0) await sleep(this.#plan.delayMs);
    await writeAll(this.#image, data, offset);
  }

  async flush(): Promise<void> {
    this.#fail('flush');
    await this.#image.sync();
  }

  async manifest(manifest: Manifest): Promise<void> {
    if (manifest.state !== 'broken') this.#fail('manifest');
    await writeFile(join(this.#directory, 'manifest.json'), JSON.stringify(manifest));
  }

  async close(): Promise<void> {
    await this.#image.close();
    await this.#sums?.close();
    this.#fail('close');
  }

  #fail(where: Plan['target']['fails']): void {
    if (this.#plan.fails === where) throw new Error('the cloud is down');
  }
}

/** A `FileHandle.write` may write less than it is given. */
async function writeAll(file: FileHandle, data: Buffer, offset: number): Promise<void> {
  for (let done = 0; done < data.length; ) {
    done += (await file.write(data, done, data.length - done, offset + done)).bytesWritten;
  }
}
