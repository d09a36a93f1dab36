/** `npm run soak`; see scripts/soak.mjs. */
import { parseArgs } from 'node:util';
import { Cleanup } from '../helpers/cleanup.js';
import type { DriverKind } from './plan.js';
import { problemsOf, soak, textOf } from './soak.js';

const USAGE = `npm run soak -- [options]
  --minutes N     how long (default 30)
  --driver NAME   embedded, user or both (default both: beside one another)
  --seed N        of sessions and writers (default: drawn, and told)
  --json          the report as JSON, every sample in it`;

class UsageError extends Error {}

function readOptions() {
  const { values } = parseArgs({
    options: {
      minutes: { type: 'string', default: '30' },
      driver: { type: 'string', default: 'both' },
      seed: { type: 'string', default: String(Math.floor(Math.random() * 2 ** 31)) },
      json: { type: 'boolean', default: false },
      help: { type: 'boolean', default: false },
    },
  });
  const minutes = Number(values.minutes);
  if (!(minutes > 0)) throw new UsageError(`--minutes ${values.minutes}: it is a number of minutes`);
  const seed = Number(values.seed);
  if (!Number.isInteger(seed) || seed < 0)
    throw new UsageError(`--seed ${values.seed}: it is a whole number`);
  const drivers: DriverKind[] =
    values.driver === 'both' ? ['embedded', 'user'] : [values.driver as DriverKind];
  if (!drivers.every((driver) => ['embedded', 'user'].includes(driver))) {
    throw new UsageError(`--driver ${values.driver}: it is embedded, user or both`);
  }
  return { minutes, seed, drivers, json: values.json, help: values.help };
}

async function main(): Promise<void> {
  const { minutes, seed, drivers, json, help } = readOptions();
  if (help) return console.log(USAGE);
  console.error(`soak of ${minutes} minutes, seed ${seed}`);
  const cleanup = new Cleanup();
  const interrupt = new AbortController();
  for (const name of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.once(name, () => interrupt.abort());
  try {
    const reports = await soak({ seconds: minutes * 60, drivers, seed, signal: interrupt.signal }, cleanup);
    const problems = reports.flatMap(problemsOf);
    if (json) console.log(JSON.stringify({ seed, minutes, problems, lanes: reports }));
    else console.log(`${reports.map(textOf).join('\n\n')}\n`);
    for (const problem of problems) console.error(`not flat: ${problem}`);
    if (problems.length > 0) process.exitCode = 1;
  } finally {
    await cleanup.run();
  }
}

await main().catch((error: unknown) => {
  if (error instanceof UsageError || (error as NodeJS.ErrnoException)?.code?.startsWith('ERR_PARSE_ARGS')) {
    console.error(`${(error as Error).message}\n${USAGE}`);
    process.exitCode = 2;
  } else {
    console.error((error as Error)?.stack ?? error);
    process.exitCode = 1;
  }
});
