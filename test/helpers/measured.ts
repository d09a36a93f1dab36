/** A backup with figures that a test of metrics knows. */
import type { Measured } from '../../lib/metrics/table.js';
import { STANDSTILL, toStats } from '../../lib/stats.js';
import { FakeSession } from './fake-session.js';

/** 4 of 10 blocks of 4 KiB done, one capture of 1.5 us and two of 3 us, five writes held, two of them now. */
export function measured(): Measured {
  const session = new FakeSession();
  session.figures = { listedBlocks: 10, doneBlocks: 4, slotsTotal: 4, slotsUsed: 1 };
  const { histograms } = session.stats();
  histograms.capture.set([1, 2], 1);
  session.figures = { ...session.figures, histograms };
  session.counters = { captured: 3, captureNs: 8000, captureMaxNs: 3000, held: 5, heldNow: 2 };
  return { stats: () => toStats(session.stats(), 4096, 1, { ...STANDSTILL, sweep: 100 }) };
}
