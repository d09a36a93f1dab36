/**
 * Kernel memory of a session besides its slots: sessions on several origins of 1 TiB at once, so that what the
 * rest of the kernel does in between is small beside it.
 */
import { readFileSync, writeFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import type { BenchmarkResult } from '../lib/context.js';
import { atMost } from '../lib/context.js';
import { median } from '../lib/statistics.js';
import { table } from '../lib/table.js';
import type { GuestContext, KernelBenchmark } from './lib/benchmark.js';
import { command, MiB, mapped, nullDisk } from './lib/devices.js';
import { Sessions } from './lib/programs.js';
import { Series } from './lib/series.js';

const TEST = '1 TiB';
const STARTED = 'started';
const ORIGINS = 8;
const TiB = 2 ** 40;
/** Movements that count as rest, and how long to wait for it. */
const REST_MiB = 0.25;
const LIMIT_MS = 10_000;

/** MiB in use: neither free, nor in the lists of free pages that each processor keeps, nor in a cache. */
function used(): number {
  command('sync');
  writeFileSync('/proc/sys/vm/drop_caches', '3');
  const meminfo = readFileSync('/proc/meminfo', 'utf8');
  const kib = (name: string) => Number(new RegExp(`^${name}:\\s+(\\d+) kB`, 'm').exec(meminfo)?.[1]);
  const unused = ['MemFree', 'Buffers', 'Cached', 'SReclaimable'].reduce((sum, name) => sum + kib(name), 0);
  const lists = readFileSync('/proc/zoneinfo', 'utf8').matchAll(/^\s+count:\s+(\d+)$/gm);
  const pages = [...lists].reduce((sum, [, count]) => sum + Number(count), 0);
  return (kib('MemTotal') - unused - pages * 4) / 1024;
}

/** The same when it has come to rest: what ended is freed some grace periods later. */
async function atRest(): Promise<number> {
  const deadline = performance.now() + LIMIT_MS;
  let last = [Number.NaN];
  while (performance.now() < deadline) {
    await sleep(200);
    last = [...last.slice(-4), used()];
    if (Math.max(...last) - Math.min(...last) < REST_MiB) break;
  }
  return median(last);
}

async function run(context: GuestContext): Promise<BenchmarkResult> {
  const disk = nullDisk('nullb_memory', { bytes: TiB, keeps: 'nothing' });
  const samples = new Series<number>();
  let shared = 0;
  for (let round = 1; round <= context.rounds; round += 1) {
    const names = Array.from({ length: ORIGINS }, (_, index) => `memory${index}`);
    const look = async (what: string, before: number, less = 0) =>
      samples.add(TEST, what, ((await atRest()) - before - less) / ORIGINS);
    const bare = await atRest();
    const origins = names.map((name) => mapped(name, 'snapbak', disk, 0));
    await look('attached', bare);
    const sessions = new Sessions(...origins);
    const attached = await atRest();
    const { mappedBytes, slotBytes } = await sessions.setup();
    shared = (mappedBytes - slotBytes) / ORIGINS / MiB;
    await look('set up, all listed', attached, slotBytes / MiB);
    await sessions.start();
    await look(STARTED, attached, slotBytes / MiB);
    await sessions.end();
    await look('ended: left behind', attached);
    await sessions.close();
    command('dmsetup', 'remove', ...origins);
  }
  const rows = samples.contenders(TEST).map((what) => {
    const values = samples.of(TEST, what);
    return [
      what,
      ...[median(values), Math.min(...values), Math.max(...values)].map((value) => value.toFixed(2)),
    ];
  });
  return {
    tables: [
      {
        title: `Kernel memory of one origin of ${TEST} besides the slots, MiB (of ${ORIGINS} at once)`,
        text: table(['', 'in use', 'least', 'most'], rows),
      },
    ],
    goals: [atMost('kernel memory a TiB besides the slots', median(samples.of(TEST, STARTED)), 4, 'MiB')],
    samples,
    notes: [
      `the shared memory without its slots is ${shared.toFixed(2)} MiB of it`,
      'an attached origin is a whole device-mapper device: dm-linear takes such memory too',
    ],
  };
}

export const memory: KernelBenchmark = {
  name: 'memory',
  title: 'Kernel memory',
  machine: { cpus: 2, memoryMiB: 1024, disks: [] },
  run,
};
