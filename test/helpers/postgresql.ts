/**
 * PostgreSQL in a test's own folder, under load: a server, pgbench, and a client whose every confirmed row
 * is noted outside of the cluster. What is done and checked is postgresql.sh's, which the guest's story
 * runs too.
 */
import assert from 'node:assert/strict';
import type { ChildProcess } from 'node:child_process';
import { chmodSync, chownSync, existsSync, mkdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { Cleanup } from './cleanup.js';
import { ended, must, type Result, start, until } from './programs.js';

const SCRIPT = fileURLToPath(new URL('postgresql.sh', import.meta.url));
const NOBODY = 65_534;
/** Transactions a second: some 4 MiB of writes, and time for what is tested. */
const BENCH_RATE = '200';

/** A command of postgresql.sh that must succeed; gives what it said. */
export const postgresql = (...args: string[]) => must('bash', [SCRIPT, ...args]);

/** A cluster that is not running, in a folder that the server, who is nobody, can reach. */
export async function makeCluster(cleanup: Cleanup): Promise<string> {
  const data = join(openFolder(cleanup), 'data');
  await postgresql('make', data);
  return data;
}

/** A folder whose content nobody can reach, but not list. */
export function openFolder(cleanup: Cleanup): string {
  const folder = cleanup.folder('postgresql');
  chmodSync(folder, 0o711);
  return folder;
}

/** A new folder for the server's socket. */
export function runFolder(folder: string, name: string): string {
  const path = join(folder, name);
  mkdirSync(path);
  chownSync(path, NOBODY, NOBODY);
  return path;
}

export class Postgres {
  /** Lines "NUMBER BEGUN CONFIRMED", in microseconds. */
  readonly journal: string;
  #jobs: Job[] = [];

  private constructor(
    private readonly run: string,
    private readonly server: Job,
    folder: string,
  ) {
    this.journal = join(folder, 'journal');
  }

  /**
   * Starts the server, and the clients when it takes connections.
   *
   * @param folder for the socket and the journal: not on the file system with the data
   */
  static async start(cleanup: Cleanup, data: string, folder: string): Promise<Postgres> {
    const run = runFolder(folder, 'run');
    const server = new Job(cleanup, 'SIGQUIT', 'serve', data, run);
    const postgres = new Postgres(run, server, folder);
    await Promise.race([postgresql('ready', run), server.early()]);
    postgres.#jobs = [
      ['bench', run, BENCH_RATE],
      ['note', run, postgres.journal],
    ].map((args) => new Job(cleanup, 'SIGTERM', ...args));
    return postgres;
  }

  /** Resolves once `count` more rows of the journal were confirmed. */
  async confirmed(count: number): Promise<void> {
    const goal = this.#rows() + count;
    const enough = until('rows are confirmed', () => this.#rows() >= goal);
    await Promise.race([enough, ...this.#jobs.map((job) => job.early())]);
  }

  #rows(): number {
    return existsSync(this.journal) ? readFileSync(this.journal, 'utf8').split('\n').length - 1 : 0;
  }

  /** Ends the clients, who must have had no error, and then the server, in good order. */
  async stop(): Promise<void> {
    for (const job of this.#jobs) {
      const { stderr } = await job.end('SIGTERM');
      assert.doesNotMatch(stderr, /error|abort|fatal/i);
    }
    await postgresql('sums', this.run);
    const { code, stderr } = await this.server.end('SIGINT');
    assert.equal(code, 0, stderr);
  }

  /** The shell commands of a hook: an SQL command. */
  sqlCommand(sql: string): string {
    return `psql -X -q -v ON_ERROR_STOP=1 -h '${this.run}' -U test -d postgres -c '${sql}'`;
  }
}

/** A command of postgresql.sh that runs until it is ended. */
class Job {
  readonly #child: ChildProcess;
  readonly #ended: Promise<Result>;
  readonly #what: string;

  constructor(cleanup: Cleanup, lastSignal: NodeJS.Signals, ...args: string[]) {
    this.#what = `postgresql.sh ${args[0]}`;
    this.#child = start('bash', [SCRIPT, ...args]);
    this.#ended = ended(this.#child);
    this.#ended.catch(() => {});
    cleanup.defer(`end ${this.#what}`, async () => {
      this.#child.kill(lastSignal);
      const forced = setTimeout(() => this.#child.kill('SIGKILL'), 30_000);
      await this.#ended;
      clearTimeout(forced);
    });
  }

  /** Rejects if it ends before it is told to; never resolves. */
  async early(): Promise<never> {
    const { code, signal, stderr } = await this.#ended;
    throw new Error(`${this.#what} ended: ${signal ?? `exit status ${code}`}\n${stderr}`);
  }

  /** Ends it; it must still run. */
  async end(signal: NodeJS.Signals): Promise<Result> {
    assert.ok(this.#child.exitCode === null && this.#child.signalCode === null, `${this.#what} has ended`);
    this.#child.kill(signal);
    return await this.#ended;
  }
}
