/**
 * What is not to cost anything: an origin without a session, and blocks that are already safe during one. The
 * measure is dm-linear on the same null_blk disk, which keeps nothing and completes at once, so that all that
 * is left of a request is the path of its instructions.
 *
 * `settled` counts the instructions: QEMU runs one a nanosecond of the guest's clock (-icount), and a second
 * dm-linear differs from the first by nothing. What an instruction costs on a real processor it does not tell.
 * `settled-clock` takes the host's clock instead, which moves by many per cent with whatever else the host does.
 */
import type { BenchmarkResult, Goal } from '../lib/context.js';
import { atLeast } from '../lib/context.js';
import { median } from '../lib/statistics.js';
import { figure, table } from '../lib/table.js';
import type { GuestContext, KernelBenchmark } from './lib/benchmark.js';
import { MiB, mapped, nullDisk, unmap } from './lib/devices.js';
import { Consumer, turns } from './lib/programs.js';
import { Series } from './lib/series.js';

const LINEAR = 'dm-linear';
const CONTROL = 'dm-linear, another one';
const IDLE = 'snapbak, no session';
const COPIED = 'snapbak session, all copied';
const CONTENDERS = [LINEAR, CONTROL, IDLE, COPIED];

const TESTS = (['write', 'read'] as const).flatMap((direction) =>
  [1, 16].map((depth) => ({ name: `${direction} 4k QD${depth}`, direction, depth })),
);

/** Requests of each device in each turn: long beside a system call, short beside what the host does meanwhile. */
const REQUESTS = 256;

/** Medians of a round: nanoseconds a request, and IOPS as parts of dm-linear's in the same turn. */
interface Sample {
  ns: number;
  ratio: number;
}

type Times = Series<Sample>;

/** One round: new devices, in other places of memory than those of the round before. */
async function measure(lower: string, turnsOfRound: number, times: Times): Promise<void> {
  const origins = [
    mapped('linear1', 'linear', lower, 0),
    mapped('linear2', 'linear', lower, 0),
    mapped('idle', 'snapbak', lower, 0),
    mapped('copied', 'snapbak', lower, 0),
  ];
  const consumer = await Consumer.start(origins.at(-1)!, '--claim');
  await consumer.copied();
  for (const { name, direction, depth } of TESTS) {
    const options = { direction, depth, requests: REQUESTS, turns: turnsOfRound };
    const rows = await turns(options, origins);
    CONTENDERS.forEach((contender, column) => {
      times.add(name, contender, {
        ns: median(rows.map((row) => row[column]!)),
        ratio: median(rows.map((row) => row[CONTENDERS.indexOf(LINEAR)]! / row[column]!)),
      });
    });
  }
  const { captured } = await consumer.end();
  if (captured > 0) throw new Error(`${captured} blocks were captured that had been copied before`);
  unmap(...origins);
}

function timesTable(times: Times, unit: string): string {
  const rows = times.tests().flatMap((test) =>
    CONTENDERS.map((contender) => {
      const all = times.of(test, contender).map(({ ratio }) => ratio);
      return [
        test,
        contender,
        figure(median(times.of(test, contender).map(({ ns }) => ns))),
        `x${median(all).toFixed(4)}`,
        `${Math.min(...all).toFixed(3)} to ${Math.max(...all).toFixed(3)}`,
      ];
    }),
  );
  return table(['test', 'contender', unit, 'IOPS to dm-linear', 'all rounds'], rows);
}

function goals(times: Times): Goal[] {
  return times.tests().flatMap((test) =>
    [IDLE, COPIED].map((contender) => {
      const measured = median(times.of(test, contender).map(({ ratio }) => ratio));
      const what = `${test}, ${contender}: IOPS, to dm-linear`;
      return { ...atLeast(what, measured, 0.97), measured: `x${measured.toFixed(3)}` };
    }),
  );
}

interface Plan {
  unit: string;
  rounds: number;
  turns: number;
  /** Whether the goals are held against it. */
  judged: boolean;
  notes: string[];
}

function benchmark(
  about: Pick<KernelBenchmark, 'name' | 'title' | 'machine'>,
  plan: (context: GuestContext) => Plan,
): KernelBenchmark {
  return {
    ...about,
    async run(context): Promise<BenchmarkResult> {
      const lower = nullDisk('nullb_settled', { bytes: 256 * MiB, keeps: 'nothing' });
      const times: Times = new Series();
      const { unit, rounds, turns, judged, notes } = plan(context);
      for (let round = 1; round <= rounds; round += 1) {
        context.log(`round ${round} of ${rounds}`);
        await measure(lower, turns, times);
      }
      return {
        tables: [{ title: about.title, text: timesTable(times, unit) }],
        goals: judged ? goals(times) : [],
        samples: times,
        notes,
      };
    },
  };
}

export const settled = benchmark(
  {
    name: 'settled',
    title: 'No session, and blocks already copied: instructions',
    machine: { cpus: 1, memoryMiB: 1024, disks: [], countInstructions: true },
  },
  () => ({ unit: 'instructions', rounds: 2, turns: 40, judged: true, notes: [] }),
);

export const settledClock = benchmark(
  {
    name: 'settled-clock',
    title: "No session, and blocks already copied: the host's clock",
    machine: { cpus: 2, memoryMiB: 1024, disks: [] },
  },
  ({ rounds }) => ({
    unit: 'ns',
    rounds: rounds * 2,
    turns: 60,
    // what differs here by more than the two dm-linear do is of the driver, and they differ by too much
    judged: false,
    notes: ['no goals are held against these figures: see how far the two dm-linear are apart'],
  }),
);
