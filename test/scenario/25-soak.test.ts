// The short form of `npm run soak`: sessions back to back while applications
// write, each image compared, some aborted, some killed; nothing is left behind.
import assert from 'node:assert/strict';
import { Cleanup } from '../helpers/cleanup.js';
import { seeded } from '../helpers/images.js';
import { flatness, MIN_SAMPLES, sparkline } from '../soak/flat.js';
import { problemsOf, soak, textOf } from '../soak/soak.js';

/** Two rounds of the kinds of container, an abort and a kill among them. */
const SESSIONS = 12;

/** So many samples in MiB: warming up, noise, and what each session leaves behind. */
function rss(samples: number, leak: number): number[] {
  const draw = seeded(1);
  return Array.from({ length: samples }, (_, i) => 100 + Math.min(i, samples / 4) + draw(12) + i * leak);
}

describe('what is flat', () => {
  it('is told from a small leak in the midst of noise', () => {
    assert.equal(flatness(rss(600, 0), 4).flat, true);
    assert.equal(flatness(rss(600, 0.015), 4).flat, false);
    assert.equal(flatness(rss(MIN_SAMPLES - 1, 0), 4).flat, false, 'too few to tell');
    assert.equal(flatness([...Array(20).fill(7), ...Array(10).fill(8)], 0).flat, false);
    const outlier = [...Array(25).fill(7), 9, ...Array(4).fill(7)];
    assert.equal(flatness(outlier, 0).flat, true);
  });

  it('is drawn as bars between the least and the most', () => {
    assert.equal(sparkline([1, 2, 3, 8]), '▁▂▃█');
    assert.equal(sparkline([0, 5, 0, 10, 0, 0], 3), '▅█▁');
  });
});

describe('sessions back to back under load', () => {
  const cleanup = new Cleanup();
  after(() => cleanup.run());

  it('give right images, and leave memory, threads, descriptors and files as they were', async () => {
    const reports = await soak(
      {
        seconds: 5,
        sessions: SESSIONS,
        drivers: ['embedded', 'user'],
        seed: 25,
        pace: 6,
        short: true,
      },
      cleanup,
    );
    for (const report of reports) {
      const { driver, sessions, images, outcomes, figures } = report;
      assert.ok(sessions >= SESSIONS, textOf(report));
      assert.ok(images >= SESSIONS - 4, `${driver}: ${images} images`);
      assert.ok(outcomes.killed + outcomes.aborted > 0, textOf(report));
      assert.ok(figures.spilled > 0 && figures.held + figures.delayed > 0, textOf(report));
      assert.deepEqual(problemsOf(report), [], textOf(report));
    }
  });
});
