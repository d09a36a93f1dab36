/**
 * First-touch writes while a point in time is held and nothing copies beside: what one capture costs the
 * writer. Slots (ours) and target (QEMU's) are large enough for all of it.
 *
 * Our library is stopped by SIGSTOP, so that captures stay in their slots, as QEMU's stay in its container.
 * The contender "draining" has the library awake and moving every captured block to its target meanwhile.
 */
import type { Benchmark, BenchmarkResult, Context } from './lib/context.js';
import { atLeast } from './lib/context.js';
import { fio, writeTouchList } from './lib/fio.js';
import { Samples } from './lib/samples.js';
import { type Server, startNbdkitFile, startQsd, startSnapbak } from './lib/servers.js';
import { Session } from './lib/session.js';

const QSD = 'qemu-storage-daemon';
const CBW = 'qsd + copy-before-write';
const NBDKIT = 'nbdkit file';
const HELD = 'snapbak session';
const DRAINING = 'snapbak session, draining';

/** Slots for every block of the image, and an eighth more. */
export function slotBytes(context: Context): number {
  return context.imageSize + context.imageSize / 8;
}

/** fio's options for the tests that touch every block once. */
export function touchTests(context: Context): Record<string, string[]> {
  const list = context.workspace.path('touch.log');
  writeTouchList(list, context.imageSize, context.blockSize, 4096, 16);
  return {
    'wc4k QD1': [`--read_iolog=${list}`, '--iodepth=1'],
    'wc4k QD16': [`--read_iolog=${list}`, '--iodepth=16'],
    'ft64k QD16': ['--rw=randwrite', '--bs=64k', '--iodepth=16', `--size=${context.imageSize}`],
  };
}

/** A session on `server` that does not sweep. */
export function holdSession(context: Context, control: string, rate?: number): Promise<Session> {
  return Session.start(
    {
      control,
      ...(rate === undefined ? {} : { rate }),
      target: `${context.workspace.freshDirectory('backup')}/held`,
      slotBytes: slotBytes(context),
      blockSize: context.blockSize,
      sweep: 'told',
    },
    context.cpus.server,
  );
}

/** A figure of a session that did not capture would be a figure of something else. */
export async function checkCaptured(context: Context, session: Session): Promise<void> {
  const { stats } = await session.picture();
  const captured = (stats as { capturedBlocks?: number }).capturedBlocks ?? 0;
  const blocks = context.imageSize / context.blockSize;
  if (captured < blocks * 0.98) {
    throw new Error(`only ${captured} of ${blocks} blocks were captured: the sweep was not idle`);
  }
}

async function run(context: Context): Promise<BenchmarkResult> {
  const samples = new Samples();
  const tests = touchTests(context);
  const plain: Record<string, () => Promise<Server>> = {
    [QSD]: () => startQsd(context, 'plain'),
    [CBW]: () => startQsd(context, 'cbw'),
    [NBDKIT]: () => startNbdkitFile(context),
  };
  for (let round = 1; round <= context.rounds; round += 1) {
    context.log(`round ${round} of ${context.rounds}`);
    for (const [test, options] of Object.entries(tests)) {
      for (const [contender, start] of Object.entries(plain)) {
        const server = await start();
        samples.add(test, contender, await fio({ socket: server.socket, cpu: context.cpus.client, options }));
        await server.stop();
      }
      if (context.plugin === undefined) continue;
      for (const contender of [HELD, DRAINING]) {
        const server = await startSnapbak(context);
        const session = await holdSession(context, server.control);
        if (contender === HELD) session.suspend();
        samples.add(test, contender, await fio({ socket: server.socket, cpu: context.cpus.client, options }));
        session.wake();
        if (contender === HELD) await checkCaptured(context, session);
        await session.stop();
        await server.stop();
      }
    }
  }
  context.workspace.remove('backup', 'touch.log');
  const wanted = { 'wc4k QD1': 1.5, 'wc4k QD16': 3, 'ft64k QD16': 2 };
  return {
    tables: [{ title: 'First-touch writes', text: samples.table({ qsd: QSD, 'qsd+cbw': CBW }) }],
    goals:
      context.plugin === undefined
        ? []
        : Object.entries(wanted).map(([test, times]) =>
            atLeast(`${test} during a session, to QEMU's`, samples.ratio(test, HELD, CBW), times),
          ),
    samples,
  };
}

export const firstTouch: Benchmark = {
  name: 'first-touch',
  title: 'First-touch writes during a session, nothing copying beside',
  run,
};
