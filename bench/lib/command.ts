/** What the benchmarks' commands have in common: wrong usage, and how they end. */
import { cleanUp, cleanUpAtEnd, interrupted } from './cleanup.js';

/** The command line was wrong: exit status 2. */
export class UsageError extends Error {}

/** What `parse` gives; what it throws is wrong usage. */
export function parsed<Values>(parse: () => Values): Values {
  try {
    return parse();
  } catch (error) {
    throw new UsageError(error instanceof Error ? error.message : String(error));
  }
}

/** `--rounds`, checked. */
export function roundsOf(value: string | number): number {
  const rounds = Number(value);
  if (Number.isInteger(rounds) && rounds >= 1 && rounds <= 100) return rounds;
  throw new UsageError(`--rounds: ${value} is not a whole number from 1 to 100`);
}

/** Those of `benchmarks` that `--only` names, or all. */
export function chosenOf<B extends { name: string }>(
  benchmarks: readonly B[],
  only?: readonly string[],
): B[] {
  for (const name of only ?? []) {
    if (!benchmarks.some((benchmark) => benchmark.name === name))
      throw new UsageError(`--only: no benchmark ${name}`);
  }
  return benchmarks.filter(({ name }) => only === undefined || only.includes(name));
}

/** Runs `main`, undoes what it left, and ends the process: status 0, 1, or 2 for wrong usage. */
export async function runCommand(main: () => Promise<void>, usage: string): Promise<never> {
  cleanUpAtEnd();
  try {
    await main();
  } catch (error) {
    if (interrupted) await new Promise(() => {}); // the handler of the signal ends the process
    if (error instanceof UsageError) {
      console.error(`${error.message}\n${usage}`);
      process.exitCode = 2;
    } else {
      console.error(error instanceof Error ? (error.stack ?? error.message) : error);
      process.exitCode = 1;
    }
  }
  await cleanUp();
  process.exit();
}
