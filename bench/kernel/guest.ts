/**
 * The guest's side: runs one benchmark in the virtual machine that the host booted for it. Progress goes to
 * stderr, the result to stdout as one line of JSON.
 *
 *     node --import tsx bench/kernel/guest.ts NAME '{"rounds": …, "blockSize": …, "cli": …}'
 */
import { BENCHMARKS } from './benchmarks.js';
import type { GuestContext } from './lib/benchmark.js';
import { prepareGuest } from './lib/devices.js';

export type GuestOptions = Omit<GuestContext, 'log'>;

const [name, json] = process.argv.slice(2);
const benchmark = BENCHMARKS.find((one) => one.name === name);
if (benchmark === undefined || json === undefined) throw new Error('guest.ts NAME OPTIONS');
const options = JSON.parse(json) as GuestOptions;
prepareGuest();
const log = (line: string) => console.error(`  ${line}`);
console.log(JSON.stringify(await benchmark.run({ ...options, log })));
