// Runs other programs for the scripts: shown, captured, or quiet with a log
// that is shown only when they fail.
import { spawn } from 'node:child_process';
import { closeSync, existsSync, mkdirSync, openSync, readFileSync } from 'node:fs';
import { delimiter, dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

/** The root of the repository. */
export const ROOT = fileURLToPath(new URL('../..', import.meta.url)).replace(/\/$/, '');

/** Logs of quiet commands; git-ignored. */
export const LOGS = join(ROOT, 'build-logs');

/** A failure that is told in words, without a stack. */
export class Failure extends Error {}

/** Ends the script: a `Failure` in words, anything else with its stack. */
export function fail(error) {
  console.error(error instanceof Failure ? `\n${error.message}` : error);
  process.exit(1);
}

function wait(child) {
  return new Promise((resolve, reject) => {
    child.once('error', reject);
    child.once('close', (code, signal) => resolve({ code, signal }));
  });
}

/** Runs with output shown. Gives the exit status; a signal counts as 128 + its number. */
export async function show(command, args, options = {}) {
  const { env, timeoutMs, cwd = ROOT } = options;
  const child = spawn(command, args, {
    cwd,
    env: { ...process.env, ...env },
    stdio: ['ignore', 'inherit', 'inherit'],
    ...(timeoutMs === undefined ? {} : { timeout: timeoutMs, killSignal: 'SIGKILL' }),
  });
  const { code, signal } = await wait(child).catch((error) => {
    console.error(`${command}: ${error.message}`);
    return { code: 127, signal: null };
  });
  if (signal !== null) console.error(`${command} was ended by ${signal}`);
  return code ?? 128;
}

/** Runs with output shown, and gives the last of its standard output besides. */
export async function showAndKeep(command, args, options = {}) {
  const { env, cwd = ROOT } = options;
  const child = spawn(command, args, {
    cwd,
    env: { ...process.env, ...env },
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  let output = '';
  child.stdout.setEncoding('utf8').on('data', (text) => {
    process.stdout.write(text);
    output = (output + text).slice(-65536);
  });
  const { code, signal } = await wait(child);
  if (signal !== null) console.error(`${command} was ended by ${signal}`);
  return { code: code ?? 128, output };
}

/** Runs and gives its output, whatever its exit status. */
export async function capture(command, args, options = {}) {
  const { env, cwd = ROOT, timeoutMs } = options;
  const child = spawn(command, args, {
    cwd,
    env: { ...process.env, ...env },
    stdio: ['ignore', 'pipe', 'pipe'],
    ...(timeoutMs === undefined ? {} : { timeout: timeoutMs, killSignal: 'SIGKILL' }),
  });
  let stdout = '';
  let stderr = '';
  child.stdout.setEncoding('utf8').on('data', (text) => {
    stdout += text;
  });
  child.stderr.setEncoding('utf8').on('data', (text) => {
    stderr += text;
  });
  const { code, signal } = await wait(child).catch((error) => {
    stderr += `${command}: ${error.message}`;
    return { code: 127, signal: null };
  });
  return { code: code ?? 128, signal, stdout, stderr };
}

/** Runs with output in build-logs/NAME.log, which is shown when it fails. */
export async function quiet(name, command, args, options = {}) {
  const { env, cwd = ROOT } = options;
  mkdirSync(LOGS, { recursive: true });
  const log = join(LOGS, `${name}.log`);
  const fd = openSync(log, options.append ? 'a' : 'w');
  let status;
  try {
    status = await wait(
      spawn(command, args, { cwd, env: { ...process.env, ...env }, stdio: ['ignore', fd, fd] }),
    );
  } catch (error) {
    throw new Failure(`${command}: ${error.message}`);
  } finally {
    closeSync(fd);
  }
  if (status.code === 0) return;
  const lines = readFileSync(log, 'utf8').trimEnd().split('\n');
  console.error(lines.slice(-60).join('\n'));
  throw new Failure(
    `${command} ${args.join(' ')}\nfailed with ${status.signal ?? `exit status ${status.code}`}; ` +
      `the whole output is in ${log}`,
  );
}

/** Where a program is, or undefined. Looks in the sbin folders too, which a user's PATH lacks. */
export function findProgram(name) {
  const folders = (process.env.PATH ?? '').split(delimiter).concat('/usr/sbin', '/sbin');
  return folders
    .map((folder) => join(folder, name))
    .find((path) => dirname(path) !== '.' && existsSync(path));
}
