// Counts of passed, failed and skipped tests, out of the reports of mocha and ctest.
import { readFileSync } from 'node:fs';

export const none = () => ({ passed: 0, failed: 0, skipped: 0 });

export function add(a, b) {
  return { passed: a.passed + b.passed, failed: a.failed + b.failed, skipped: a.skipped + b.skipped };
}

/** The line that everything ends with. */
export function line({ passed, failed, skipped }) {
  return `${passed} passed, ${failed} failed, ${skipped} skipped`;
}

/** The counts of such a line, the last one in `text`; undefined without one. */
export function parseLine(text) {
  const found = [...text.matchAll(/^(\d+) passed, (\d+) failed, (\d+) skipped$/gm)].at(-1);
  if (found === undefined) return undefined;
  return { passed: Number(found[1]), failed: Number(found[2]), skipped: Number(found[3]) };
}

/** What scripts/lib/mocha-reporter.mjs wrote. Throws when it is not there: mocha did not come to its end. */
export function fromMocha(file) {
  const report = JSON.parse(readFileSync(file, 'utf8'));
  return { passed: report.passed, failed: report.failed, skipped: report.skipped };
}

/** What failed, one line each: the sentence, and what was wrong first. */
export function failuresOfMocha(file) {
  const { failures } = JSON.parse(readFileSync(file, 'utf8'));
  return failures.map(({ title, message }) => `${title}: ${message.split('\n', 1)[0]}`);
}

/** The same, of what ctest printed. */
export function failuresOfCtest(output) {
  return [...output.matchAll(/^\s+\d+ - (.+ \((?!Skipped|Disabled|Not Run).*\))\s*$/gm)].map(
    ([, text]) => text,
  );
}

/** What ctest wrote by --output-junit. */
export function fromJunit(file) {
  const head = /<testsuite\b[^>]*>/.exec(readFileSync(file, 'utf8'))?.[0];
  if (head === undefined) throw new Error(`${file} is no JUnit report`);
  const number = (name) => Number(new RegExp(`\\b${name}="(\\d+)"`).exec(head)?.[1] ?? 0);
  const failed = number('failures') + number('errors');
  const skipped = number('skipped') + number('disabled');
  return { passed: number('tests') - failed - skipped, failed, skipped };
}

/** A suite that is made of one check. */
export const one = (ok) => ({ passed: ok ? 1 : 0, failed: ok ? 0 : 1, skipped: 0 });

/** A suite that ran nothing counts as failed: an empty run must not look green. */
export function notEmpty(counts) {
  return counts.passed + counts.failed > 0 ? counts : { ...counts, failed: 1 };
}
