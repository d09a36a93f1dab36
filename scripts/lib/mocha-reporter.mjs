// mocha's spec output for people, and in a file for scripts/test.mjs the counts,
// and how long each file's tests took (--reporter-option output=FILE). The file is
// written at the end only, so a run that was cut short leaves none.
import { writeFileSync } from 'node:fs';
import Mocha from 'mocha';

const { EVENT_TEST_PASS, EVENT_TEST_FAIL, EVENT_TEST_PENDING, EVENT_TEST_END, EVENT_RUN_END } =
  Mocha.Runner.constants;

export default class SpecAndCounts extends Mocha.reporters.Spec {
  constructor(runner, options) {
    super(runner, options);
    const output = options.reporterOption?.output ?? options.reporterOptions?.output;
    const counts = { passed: 0, failed: 0, skipped: 0, failures: [], filesMs: {} };
    runner.on(EVENT_TEST_PASS, () => {
      counts.passed += 1;
    });
    runner.on(EVENT_TEST_END, ({ file = '', duration = 0 }) => {
      counts.filesMs[file] = (counts.filesMs[file] ?? 0) + duration;
    });
    runner.on(EVENT_TEST_FAIL, (test, error) => {
      counts.failed += 1;
      counts.failures.push({ title: test.fullTitle(), message: String(error?.message ?? error) });
    });
    runner.on(EVENT_TEST_PENDING, () => {
      counts.skipped += 1;
    });
    runner.once(EVENT_RUN_END, () => {
      if (output !== undefined) writeFileSync(output, JSON.stringify(counts));
    });
  }
}
