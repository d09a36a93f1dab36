/**
 * `npm run chaos`: sessions in which everything goes wrong, from one seed. Says
 * how to repeat the one that fails, keeps its folder, and ends with status 1.
 */
import { parseArgs } from 'node:util';
import { again, missing, plansOf, runCampaign, type Summary } from './campaign.js';
import type { Driver } from './plan.js';

const USAGE = `npm run chaos -- [options]
  --driver NAME   embedded or user (default: both, in turn)
  --sessions N    how many (default 200)
  --seed S        what they are drawn from (default: of the clock)
  --from I        the number of the first (default 0)
  --rows N        how many at a time (default 2)
  --keep-going    not only to the first that fails
  --json          the summary as JSON`;
/** So many sessions meet everything. */
const LONG = 500;

const { values } = parseArgs({
  options: {
    driver: { type: 'string' },
    sessions: { type: 'string', default: '200' },
    seed: { type: 'string' },
    from: { type: 'string', default: '0' },
    rows: { type: 'string', default: '2' },
    'keep-going': { type: 'boolean', default: false },
    json: { type: 'boolean', default: false },
    help: { type: 'boolean', default: false },
  },
});

function whole(name: 'sessions' | 'seed' | 'from' | 'rows', text: string, least: number): number {
  const value = Number(text);
  if (Number.isInteger(value) && value >= least && value <= 0xffff_ffff) return value;
  throw new RangeError(`--${name}: ${text} is not a whole number from ${least} on`);
}

function driversOf(name: string | undefined): Driver[] {
  if (name === undefined) return ['embedded', 'user'];
  if (name === 'embedded' || name === 'user') return [name];
  throw new RangeError(`--driver: ${name} is neither embedded nor user`);
}

const table = (counts: Record<string, number>) =>
  Object.entries(counts)
    .sort(([, a], [, b]) => b - a)
    .map(([name, count]) => `  ${String(count).padStart(9)}  ${name}`)
    .join('\n');

function tell(summary: Summary, seed: number): void {
  const MiB = 2 ** 20;
  const { nearest } = summary;
  console.log(`
ends\n${table(summary.ends)}
main faults\n${table(summary.disasters)}
system calls spoilt\n${table(summary.faults)}
${summary.requests} requests of writers, ${summary.captured} blocks captured, ${summary.spilled} spilled, ${summary.held} writes held, ${summary.delayed} delayed, ${summary.resized} resizes
the longest write ${summary.longestMs.toFixed(0)} ms; nearest to its bound ${nearest.longestMs.toFixed(0)} of ${nearest.boundMs.toFixed(0)} ms (session ${nearest.index}); the longest hold ${summary.heldMaxMs.toFixed(0)} ms
${summary.memory.map(({ process, samples, second, last }) => `memory of ${process}: ${(second / MiB).toFixed(1)} MiB, then ${(last / MiB).toFixed(1)} MiB (${samples} samples)`).join('\n')}
${summary.sessions} sessions in ${summary.seconds.toFixed(0)} s, seed ${seed}`);
}

async function main(): Promise<number> {
  if (values.help) {
    console.log(USAGE);
    return 0;
  }
  const drivers = driversOf(values.driver);
  const seed = whole('seed', values.seed ?? String(Date.now() % 0xffff_ffff), 0);
  const stop = new AbortController();
  // sessions under way come to their end, so that nothing is left of them
  for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => stop.abort());
  const summary = await runCampaign({
    signal: stop.signal,
    plans: plansOf(seed, drivers, {
      from: whole('from', values.from, 0),
      sessions: whole('sessions', values.sessions, 1),
    }),
    rows: whole('rows', values.rows, 1),
    keepGoing: values['keep-going'],
    onSession({ plan, end, wrong }, { sessions, seconds, ends }) {
      if (values.json) return;
      const so = `${sessions} sessions, ${seconds.toFixed(0)} s; ${plan.index}: ${plan.driver}, ${plan.disaster}: ${end}${wrong.length === 0 ? '' : `: ${wrong.join('; ')}`}`;
      if (sessions % 25 === 0) console.log(`${so}\n${table(ends)}`);
      else console.log(so);
    },
  });
  if (values.json) console.log(JSON.stringify({ seed, ...summary }));
  else tell(summary, seed);
  const { failures, wrong } = summary;
  if (summary.sessions >= LONG) wrong.push(...missing(summary).map((what) => `never met: ${what}`));
  for (const failure of failures) {
    const { plan } = failure;
    console.error(
      `\nsession ${plan.index} (${plan.driver}, ${plan.disaster}):\n  ${failure.wrong.join('\n  ')}`,
    );
    console.error(`again: ${again(failure, values.driver as Driver | undefined)}`);
  }
  for (const what of wrong) console.error(what);
  if (summary.folder !== undefined) console.error(`all that is left of them: ${summary.folder}`);
  return failures.length + wrong.length === 0 ? 0 : 1;
}

try {
  process.exitCode = await main();
} catch (error) {
  console.error(error instanceof RangeError ? `${error.message}\n${USAGE}` : error);
  process.exitCode = 1;
}
