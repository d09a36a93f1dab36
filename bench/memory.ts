/**
 * Memory of server and library together by the size of the origin, the slots being the same: a session on a
 * sparse image of 1 GiB and one of 4 TiB, first held, then sweeping. Shared pages count once (Pss). JavaScript's
 * garbage is collected before each sample: how much there is depends on time, not on the origin.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import type { Benchmark, BenchmarkResult, Context } from './lib/context.js';
import { atMost } from './lib/context.js';
import { pssKiB } from './lib/processes.js';
import { startSnapbak } from './lib/servers.js';
import { Session } from './lib/session.js';
import { median } from './lib/statistics.js';
import { figure, table } from './lib/table.js';

const GIB = 2 ** 30;
const TIB = 2 ** 40;
const SLOT_BYTES = 64 << 20;
/** How long a sweep is watched. */
const WATCH_MS = 3_000;
const SAMPLE_MS = 100;

interface Memory {
  heldKiB: number;
  sweepingKiB: number;
}

async function measure(context: Context, size: number): Promise<Memory> {
  const image = context.workspace.sparseFile('sparse.img', size);
  const server = await startSnapbak(context, { image });
  const session = await Session.start({
    control: server.control,
    target: `${context.workspace.freshDirectory('backup')}/sparse`,
    slotBytes: SLOT_BYTES,
    blockSize: context.blockSize,
    sweep: 'told',
  });
  await session.picture();
  const pids = [server.pid, session.pid];
  const heldKiB = pssKiB(pids);
  let sweepingKiB = heldKiB;
  let over = false;
  const finished = session.finished().then(() => {
    over = true;
  });
  session.resume();
  for (const end = Date.now() + WATCH_MS; Date.now() < end && !over; ) {
    // a session that ends meanwhile shows no picture: `finished` says how it ended
    const shown = await Promise.race([
      session
        .picture()
        .then(() => true)
        .catch(() => false),
      finished,
    ]);
    if (shown !== true) break;
    sweepingKiB = Math.max(sweepingKiB, pssKiB(pids));
    await Promise.race([sleep(SAMPLE_MS), finished]);
  }
  finished.catch(() => {}); // ended by us below
  await session.stop();
  await server.stop();
  context.workspace.remove('sparse.img', 'backup');
  return { heldKiB, sweepingKiB };
}

async function run(context: Context): Promise<BenchmarkResult> {
  const note = 'checksums lie in the backup directory, 4 bytes a block (64 MiB a TiB), not in memory';
  if (context.plugin === undefined) return { tables: [], goals: [], samples: {}, notes: [note] };
  const small: Memory[] = [];
  const large: Memory[] = [];
  for (let round = 1; round <= context.rounds; round += 1) {
    context.log(`round ${round} of ${context.rounds}`);
    small.push(await measure(context, GIB));
    large.push(await measure(context, 4 * TIB));
  }
  const perTib = (pick: (memory: Memory) => number) =>
    median(large.map((memory, round) => (pick(memory) - pick(small[round]!)) / 1024 / (4 - GIB / TIB)));
  const mib = (list: Memory[], pick: (memory: Memory) => number) => figure(median(list.map(pick)) / 1024);
  const held = (memory: Memory) => memory.heldKiB;
  const sweeping = (memory: Memory) => memory.sweepingKiB;
  const rows = [
    ['held', mib(small, held), mib(large, held), figure(perTib(held))],
    ['sweeping (largest)', mib(small, sweeping), mib(large, sweeping), figure(perTib(sweeping))],
  ];
  return {
    tables: [
      {
        title: `Server + library, MiB, of which ${SLOT_BYTES >> 20} are slots`,
        text: table(['session', '1 GiB origin', '4 TiB origin', 'MiB a TiB'], rows),
      },
    ],
    goals: [
      atMost('memory a TiB of origin, held', perTib(held), 4, 'MiB'),
      atMost('memory a TiB of origin, sweeping', perTib(sweeping), 4, 'MiB'),
    ],
    samples: { small, large },
    notes: [note],
  };
}

export const memory: Benchmark = {
  name: 'memory',
  title: 'Memory by the size of the origin',
  run,
};
