/**
 * `--hook PROGRAM`: the hooks of a backup as a program, run as
 * `PROGRAM before-freeze` and `PROGRAM after-thaw`, with what it may want to
 * know in its environment. One that takes too long is ended, and so is whatever
 * it began in its process group; one that ends well may leave a process behind.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { access, constants } from 'node:fs/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import type { BackupOptions, HookContext, ThawContext } from '../backup.js';
import { findProgram } from '../find-program.js';
import { systemError } from '../system-error.js';
import { LineCutter, withoutNul } from './line-cutter.js';

export interface HookProgram {
  program: string;
  /** Where the backup goes, for the program. */
  target: string;
  /** Milliseconds for each run, for the program. */
  timeout: number;
  /** What the program says, a line at a time. */
  say(line: string): void;
  /** From SIGTERM to SIGKILL, milliseconds. */
  killAfter?: number;
}

/** What a program says after its end is waited for so long: a process that it left behind may hold the pipe. */
const LAST_WORDS_MS = 100;
/** A line that is longer is cut. */
const MAX_LINE = 1000;

/** @throws SnapbakError `ERR_SNAPBAK_HOOK` if there is no such program: better now than when all is prepared. */
export async function programHooks(
  hook: HookProgram,
): Promise<Required<Pick<BackupOptions, 'beforeFreeze' | 'afterThaw'>>> {
  const { program } = hook;
  const path = program.includes('/') ? program : (findProgram(program) ?? program);
  await access(path, constants.X_OK).catch((cause: unknown) => {
    throw systemError('ERR_SNAPBAK_HOOK', `cannot run the hook ${program}`, cause, program);
  });
  const found = { ...hook, program: path };
  return {
    beforeFreeze: (context) => run(found, 'before-freeze', context, {}),
    afterThaw: (context) => run(found, 'after-thaw', context, thawEnvironment(context)),
  };
}

function thawEnvironment({ started, startedAt, armMs, freezeMs, error }: ThawContext): NodeJS.ProcessEnv {
  // no environment can have a NUL: the hook would not be run for it
  if (!started) return { SNAPBAK_STARTED: '0', SNAPBAK_ERROR: withoutNul(error?.message ?? '') };
  return {
    SNAPBAK_STARTED: '1',
    SNAPBAK_INSTANT: startedAt?.toISOString(),
    SNAPBAK_ARM_MS: String(armMs),
    SNAPBAK_FREEZE_MS: String(freezeMs),
  };
}

async function run(
  { program, target, timeout, say, killAfter = 2000 }: HookProgram,
  name: string,
  { id, origin, origins, signal }: HookContext,
  more: NodeJS.ProcessEnv,
): Promise<void> {
  const child = spawn(program, [name], {
    detached: true, // a process group of its own: Ctrl-C is ours to answer, and it can be ended whole
    stdio: ['ignore', 'pipe', 'pipe'],
    env: {
      ...process.env,
      SNAPBAK_HOOK: name,
      SNAPBAK_ORIGIN: origin,
      SNAPBAK_ORIGINS: origins.join('\n'),
      SNAPBAK_ID: id,
      SNAPBAK_TARGET: target,
      SNAPBAK_TIMEOUT: String(Math.ceil(timeout / 1000)),
      ...more,
    },
  });
  const words = listen(child, say);
  let kill: NodeJS.Timeout | undefined;
  const onAbort = () => {
    endGroup(child, 'SIGTERM');
    kill = setTimeout(() => endGroup(child, 'SIGKILL'), killAfter);
  };
  signal.addEventListener('abort', onAbort, { once: true });
  try {
    const how = await ending(child);
    await Promise.race([words.closed, sleep(LAST_WORDS_MS)]);
    if (how !== undefined) {
      throw new Error(`${program} ${name} ${how}${words.last === '' ? '' : `: ${words.last}`}`);
    }
  } finally {
    signal.removeEventListener('abort', onAbort);
    clearTimeout(kill);
    // it may have ended at the first signal, and left something behind that did not
    if (signal.aborted) endGroup(child, 'SIGKILL');
    words.letGo();
  }
}

/** How it ended, if that is not well. */
async function ending(child: ChildProcess): Promise<string | undefined> {
  return await new Promise((resolve, reject) => {
    child.once('error', reject); // it could not be run
    child.once('exit', (code, signal) => {
      if (code === 0) resolve(undefined);
      else resolve(signal === null ? `ended with exit status ${code}` : `was ended by ${signal}`);
    });
  });
}

/** Hands on what it says; the end of the program is not that of whoever else has its pipes. */
function listen(child: ChildProcess, say: (line: string) => void) {
  let last = '';
  const closed = new Promise<void>((resolve) => child.once('close', () => resolve()));
  for (const stream of [child.stdout!, child.stderr!]) {
    stream.on('error', () => {});
    const lines = new LineCutter(MAX_LINE, (line) => {
      if (stream === child.stderr) last = line;
      say(line);
    });
    stream.setEncoding('utf8');
    stream.on('data', (text: string) => lines.push(text));
    stream.once('end', () => lines.end());
  }
  return {
    closed,
    get last() {
      return last;
    },
    /** Still read, so that a process left behind does not stop at a full pipe, but waited for no more. */
    letGo() {
      for (const stream of [child.stdout, child.stderr]) (stream as { unref?: () => void } | null)?.unref?.();
    },
  };
}

function endGroup({ pid }: ChildProcess, signal: NodeJS.Signals): void {
  if (pid === undefined) return;
  try {
    process.kill(-pid, signal);
  } catch {
    // it has ended
  }
}
