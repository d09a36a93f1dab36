/** fio on a block device of the guest, direct I/O, each block touched once in random order. */
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type FioResult, parseFio, writeTouchList } from '../../lib/fio.js';
import { run } from '../../lib/processes.js';

export interface Touch {
  device: string;
  blockSize: number;
  /** The first so many blocks of the device. */
  blocks: number;
  depth: number;
}

/** One 4 KiB write into each block. */
export async function touch({ device, blockSize, blocks, depth }: Touch): Promise<FioResult> {
  const list = join(tmpdir(), 'touch.log');
  writeTouchList(list, blocks * blockSize, blockSize, 4096, 0, device);
  return parseFio(
    await run([
      'fio',
      '--name=touch',
      '--thread',
      '--ioengine=libaio',
      '--direct=1',
      `--iodepth=${depth}`,
      `--read_iolog=${list}`,
      '--output-format=json',
    ]),
  );
}
