/**
 * `npm run bench`: runs the benchmarks one after the other, prints their tables and goals, keeps everything
 * in bench/results/. Each benchmark says in its own header what it compares and how.
 */
import { existsSync } from 'node:fs';
import { resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { beside } from './beside.js';
import { eventLoop } from './event-loop.js';
import { firstTouch } from './first-touch.js';
import { hotFirst } from './hot-first.js';
import { chosenOf, parsed, roundsOf, runCommand } from './lib/command.js';
import type { Benchmark, BenchmarkResult, Context } from './lib/context.js';
import { machineFacts } from './lib/facts.js';
import { twoCpus } from './lib/processes.js';
import { goalTable, keep } from './lib/report.js';
import { makeWorkspace } from './lib/workspace.js';
import { memory } from './memory.js';
import { overloaded } from './overload.js';
import { settled } from './settled.js';
import { wholeBackup } from './whole-backup.js';

const BENCHMARKS: Benchmark[] = [
  firstTouch,
  beside,
  settled,
  overloaded,
  hotFirst,
  wholeBackup,
  memory,
  eventLoop,
];

const ROOT = fileURLToPath(new URL('..', import.meta.url));
const USAGE = `npm run bench -- [options]
  --rounds N      rounds of each benchmark (default 5; the median counts)
  --only NAME     ${BENCHMARKS.map(({ name }) => name).join(', ')}; may be given several times
  --quick         256 MiB instead of 1 GiB, 2 rounds: to see that it runs, not for figures
  --peers-only    without Snapbak
  --plugin FILE   the nbdkit plugin (default build-plugin/nbdkit-snapbak-plugin.so)`;

function readOptions(args: string[]) {
  const values = parsed(() => parse(args).values);
  const quick = values.quick ?? false;
  const rounds = roundsOf(values.rounds ?? (quick ? 2 : 5));
  return { ...values, quick, rounds, chosen: chosenOf(BENCHMARKS, values.only) };
}

function parse(args: string[]) {
  return parseArgs({
    args,
    options: {
      rounds: { type: 'string' },
      only: { type: 'string', multiple: true },
      quick: { type: 'boolean' },
      'peers-only': { type: 'boolean' },
      plugin: { type: 'string' },
      help: { type: 'boolean' },
    },
  });
}

function findPlugin(given: string | undefined): string {
  const path = resolve(given ?? `${ROOT}/build-plugin/nbdkit-snapbak-plugin.so`);
  if (!existsSync(path)) throw new Error(`${path} is not there: npm run build:plugin makes it`);
  return path;
}

async function main(): Promise<void> {
  const options = readOptions(process.argv.slice(2));
  if (options.help) {
    console.log(USAGE);
    return;
  }
  const imageSize = (options.quick ? 256 : 1024) * 2 ** 20;
  const plugin = options['peers-only'] ? undefined : findPlugin(options.plugin);
  const cpus = twoCpus();
  // image, a container or the slots, a target, and an eighth for what is small
  const workspace = makeWorkspace(Math.ceil(imageSize * 3.5));
  const facts = machineFacts();
  console.log(
    `${facts.cpu}, ${facts.cpus} CPUs, Linux ${facts.kernel}; fio on CPU ${cpus.client}, server on ${cpus.server}`,
  );
  const context: Context = {
    workspace,
    cpus,
    rounds: options.rounds,
    blockSize: 65_536,
    imageSize,
    image: workspace.randomFile('image.img', imageSize),
    plugin,
    cli: [`${ROOT}/dist/cli/main.js`].find(existsSync),
    log: (line) => console.error(`  ${line}`),
  };
  const results: Record<string, BenchmarkResult> = {};
  for (const benchmark of options.chosen) {
    console.log(`\n== ${benchmark.title} (${benchmark.name})`);
    const result = await benchmark.run(context);
    results[benchmark.name] = result;
    for (const { title, text } of result.tables) console.log(`\n${title}\n${text}`);
    for (const note of result.notes ?? []) console.log(`note: ${note}`);
  }
  const goals = Object.values(results).flatMap((result) => result.goals);
  if (goals.length > 0) console.log(`\n== Goals\n${goalTable(goals)}`);
  console.log(
    `\nkept in ${keep({ facts, imageSize, rounds: options.rounds, quick: options.quick, results })}`,
  );
}

await runCommand(main, USAGE);
