/**
 * What is not to cost anything: the export without a session, and blocks that are already safe during one.
 * The measure is nbdkit's own file plugin.
 */
import { checkCaptured, holdSession, touchTests } from './first-touch.js';
import type { Benchmark, BenchmarkResult, Context } from './lib/context.js';
import { atLeast } from './lib/context.js';
import { fio } from './lib/fio.js';
import { Samples } from './lib/samples.js';
import { startNbdkitFile, startSnapbak } from './lib/servers.js';

const NBDKIT = 'nbdkit file';
const IDLE = 'snapbak, no session';
const COPIED = 'snapbak session, all copied';

/** Requests enough for a second or so at each. */
function tests(context: Context): Record<string, string[]> {
  const size = `--size=${context.imageSize}`;
  return {
    'st4k QD16': ['--rw=randwrite', '--bs=4k', '--iodepth=16', size, `--io_size=${context.imageSize / 2}`],
    'randread 4k QD16': [
      '--rw=randread',
      '--bs=4k',
      '--iodepth=16',
      size,
      `--io_size=${context.imageSize / 2}`,
    ],
    'read 1M QD16': ['--rw=read', '--bs=1M', '--iodepth=16', size, `--io_size=${context.imageSize * 2}`],
  };
}

async function run(context: Context): Promise<BenchmarkResult> {
  const samples = new Samples();
  const measure = async (contender: string, socket: string) => {
    // the first run after a server, or a gigabyte of slots, is slower for everybody: not counted
    await fio({ socket, cpu: context.cpus.client, options: tests(context)['st4k QD16']! });
    for (const [test, options] of Object.entries(tests(context))) {
      samples.add(test, contender, await fio({ socket, cpu: context.cpus.client, options }));
    }
  };
  const touch = touchTests(context)['wc4k QD16']!;
  for (let round = 1; round <= context.rounds; round += 1) {
    context.log(`round ${round} of ${context.rounds}`);
    const peer = await startNbdkitFile(context);
    await measure(NBDKIT, peer.socket);
    await peer.stop();
    if (context.plugin === undefined) continue;

    const server = await startSnapbak(context);
    await measure(IDLE, server.socket);
    // stopped, or the drain would end the session before it is measured
    const session = await holdSession(context, server.control);
    session.suspend();
    await fio({ socket: server.socket, cpu: context.cpus.client, options: touch });
    await measure(COPIED, server.socket);
    session.wake();
    await checkCaptured(context, session);
    await session.stop();
    await server.stop();
  }
  context.workspace.remove('backup', 'touch.log');
  return {
    tables: [{ title: 'Idle and already-copied', text: samples.table({ 'nbdkit file': NBDKIT }) }],
    goals:
      context.plugin === undefined
        ? []
        : Object.keys(tests(context)).flatMap((test) => [
            atLeast(`${test}, idle, to nbdkit file`, samples.ratio(test, IDLE, NBDKIT), 0.95),
            atLeast(`${test}, already copied, to nbdkit file`, samples.ratio(test, COPIED, NBDKIT), 0.95),
          ]),
    samples,
  };
}

export const settled: Benchmark = {
  name: 'settled',
  title: 'Idle export, and blocks already copied',
  run,
};
