/**
 * fio on the client's CPU, through NBD over a Unix socket. The result is taken from fio's own JSON: requests
 * over the time between its first and its last.
 *
 * wc4k ("write, copy") is replayed from a list of ours, because fio cannot do it by itself: `blockalign`
 * switches its random map off, and blocks would be hit twice.
 */
import { writeFileSync } from 'node:fs';
import { Child } from './processes.js';

export interface FioResult {
  /** Requests a second. */
  iops: number;
  /** MiB a second. */
  mibps: number;
  /** Completion latency, microseconds. */
  p50: number;
  p99: number;
  max: number;
  /** Seconds from the first request to the last. */
  seconds: number;
}

interface Direction {
  total_ios: number;
  runtime: number;
  bw_bytes: number;
  iops: number;
  clat_ns: { max: number; percentile?: Record<string, number> };
}

interface Output {
  jobs: [{ error: number; read: Direction; write: Direction }];
}

export interface FioJob {
  /** Of the NBD server. */
  socket: string;
  cpu: number;
  /** fio options besides engine, output and name. */
  options: string[];
}

/** Runs one fio job to its end. */
export async function fio(job: FioJob): Promise<FioResult> {
  const child = new Child(
    'fio',
    [
      'fio',
      '--name=bench',
      '--thread', // else fio forks, and the fork outlives a fio that is killed
      '--ioengine=nbd',
      `--uri=nbd+unix:///?socket=${job.socket}`,
      '--output-format=json',
      ...job.options,
    ],
    { cpu: job.cpu },
  );
  await child.done();
  return parseFio(child.stdout);
}

/** Reads fio's JSON, which follows whatever notes fio printed before it. */
export function parseFio(text: string): FioResult {
  const output = JSON.parse(text.slice(text.indexOf('{'))) as Output;
  const [job] = output.jobs;
  if (job.error !== 0) throw new Error(`fio reports errno ${job.error}`);
  const direction = job.write.total_ios > 0 ? job.write : job.read;
  if (direction.total_ios === 0 || direction.runtime === 0) throw new Error('fio did no I/O');
  return {
    iops: direction.iops,
    mibps: direction.bw_bytes / 2 ** 20,
    p50: (direction.clat_ns.percentile?.['50.000000'] ?? Number.NaN) / 1000,
    p99: (direction.clat_ns.percentile?.['99.000000'] ?? Number.NaN) / 1000,
    max: direction.clat_ns.max / 1000,
    seconds: direction.runtime / 1000,
  };
}

/**
 * Writes a replay file: one write of `length` bytes at the start of every block, in random order, each
 * once. fio's nbd engine leaves the requests in flight at the end of a list unanswered, so `depth` writes to
 * blocks that were written long before follow as the last ones. `file` is a device, for other engines;
 * `choose` leaves some of the blocks out.
 */
export function writeTouchList(
  path: string,
  size: number,
  blockSize: number,
  length: number,
  depth: number,
  file = 'nbd',
  choose: (blocks: number[]) => number[] = (blocks) => blocks,
): void {
  const blocks = choose(shuffled(Math.floor(size / blockSize)));
  const writes = [...blocks, ...blocks.slice(0, depth)].map(
    (block) => `${file} write ${block * blockSize} ${length}`,
  );
  writeFileSync(path, ['fio version 2 iolog', `${file} add`, `${file} open`, ...writes, ''].join('\n'));
}

/** 0 … count - 1 in an order that is random, but the same in every run. */
function shuffled(count: number): number[] {
  const order = Array.from({ length: count }, (_, index) => index);
  let state = 0x2545f491;
  for (let left = count - 1; left > 0; left -= 1) {
    // xorshift32 (Marsaglia 2003)
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    const other = (state >>> 0) % (left + 1);
    [order[left], order[other]] = [order[other]!, order[left]!];
  }
  return order;
}
