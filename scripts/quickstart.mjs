// npm run quickstart: installs, builds, then takes an online backup of a live
// ext4 through the user driver and proves it: every file as it was at the
// start instant. Where it may not mount, it says so and does the same with the
// embedded driver, being itself the writer.
//   node scripts/quickstart.mjs [--embedded]
import { spawn } from 'node:child_process';
import { createHash, randomBytes } from 'node:crypto';
import { createReadStream, mkdirSync, statSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { parseArgs } from 'node:util';
import { ensureBuilt } from './lib/build.mjs';
import {
  ensurePackages,
  LIVE_PACKAGES,
  liveObstacles,
  mayInstall,
  missingPackages,
} from './lib/packages.mjs';
import { capture, Failure, ROOT } from './lib/run.mjs';
import { bold, bytes, count, cyan, dim, good, green, heading, note, seconds } from './lib/terminal.mjs';

const MiB = 1 << 20;
const CLI = join(ROOT, 'dist/cli/main.js');
const { values } = parseArgs({ options: { embedded: { type: 'boolean', default: false } } });

/** Runs `snapbak` to its end; fails with what it said. */
async function snapbak(...args) {
  const { code, stdout, stderr } = await capture(process.execPath, [CLI, ...args]);
  if (code !== 0) throw new Failure(`snapbak ${args.join(' ')}: exit status ${code}\n${stdout}${stderr}`);
  return stdout;
}

/**
 * Starts `snapbak` in a process group of its own: a Ctrl-C at the terminal is
 * for this script, which ends everything in order.
 */
function startSnapbak(cleanup, args, onEvent = () => {}) {
  const child = spawn(process.execPath, [CLI, ...args], {
    stdio: ['ignore', 'pipe', 'pipe'],
    detached: true,
  });
  let stderr = '';
  child.stderr.setEncoding('utf8').on('data', (text) => {
    stderr = (stderr + text).slice(-4096);
  });
  createInterface({ input: child.stdout }).on('line', (text) => {
    try {
      onEvent(JSON.parse(text));
    } catch {
      // not JSON: nothing that this script waits for
    }
  });
  const ended = new Promise((resolve) => {
    child.once('error', (error) => resolve({ code: 127, stderr: error.message }));
    child.once('close', (code, signal) => resolve({ code: code ?? signal, stderr }));
  });
  cleanup.defer(`end snapbak ${args[0]}`, async () => {
    child.kill('SIGTERM');
    const forced = setTimeout(() => child.kill('SIGKILL'), 10_000);
    await ended;
    clearTimeout(forced);
  });
  return ended;
}

/** A backup under way: `started` resolves at the point in time, `finished` with its last event. */
function startBackup(cleanup, control, folder, rate) {
  const seen = {};
  let announce;
  const started = new Promise((resolve, reject) => {
    announce = { resolve, reject };
  });
  started.catch(() => {});
  // all blocks, so that the writer meets it for longer
  const args = ['backup', `unix:${control}`, folder, '--blocks', 'all', '--rate', rate, '--json'];
  const ended = startSnapbak(cleanup, args, (event) => {
    seen[event.event] = event;
    if (event.event === 'started') announce.resolve(event);
  });
  const finished = ended.then(({ code, stderr }) => {
    const error = new Failure(`snapbak ${args.join(' ')}: exit status ${code}\n${stderr}`);
    announce.reject(error);
    if (code !== 0) throw error;
    return seen.finished;
  });
  finished.catch(() => {});
  return { started, finished };
}

function summary(title, rows) {
  const width = Math.max(...rows.map(([name]) => name.length));
  console.log(`\n${green(bold(title))}`);
  for (const [name, value] of rows) console.log(`  ${dim(name.padEnd(width))}  ${bold(value)}`);
}

async function liveStory(cleanup, helpers) {
  const { MountedFs, hashTree, withMountedImage, LiveWriter } = helpers;
  const folder = cleanup.folder('quickstart');
  const image = join(folder, 'disk.img');
  const socket = join(folder, 'nbd.sock');
  const control = join(folder, 'control.sock');
  const backup = join(folder, 'backup');
  const restored = join(folder, 'restored.img');

  heading('A live ext4, served by snapbak');
  writeFileSync(image, '');
  truncateSync(image, 512 * MiB);
  await new Promise((listens, fails) => {
    const args = ['serve', image, '--socket', socket, '--control', control, '--json'];
    const server = startSnapbak(cleanup, args, (event) => event.event === 'started' && listens());
    server.then(({ code, stderr }) => fails(new Failure(`snapbak serve: exit status ${code}\n${stderr}`)));
  });
  good(`${bytes(512 * MiB)} disk image, exported over NBD by nbdkit with the snapbak plugin`);
  const fs = await MountedFs.make('ext4', socket, folder);
  cleanup.defer('unmount', () => fs.close());
  good(`nbdfuse → ${fs.device} → mkfs.ext4 → mounted`);
  mkdirSync(join(fs.mountPoint, 'documents'));
  for (let i = 0; i < 200; i += 1) {
    writeFileSync(join(fs.mountPoint, 'documents', `document-${i}`), randomBytes(100_000 + i * 2000));
  }
  const liveFolder = join(fs.mountPoint, 'live');
  mkdirSync(liveFolder);
  const writer = new LiveWriter(liveFolder);
  cleanup.defer('stop the writer', () => writer.stop());
  await writer.wrote(100);
  good('200 documents are there, and a program writes, overwrites and removes files, each with fsync');

  heading('An online backup');
  await fs.freeze();
  const frozenAt = performance.now();
  const { started, finished } = startBackup(cleanup, control, backup, '96M');
  await started;
  const before = await hashTree(fs.mountPoint);
  await fs.thaw();
  good(
    `the point in time is fixed; ${before.size} files hashed; frozen for ${seconds(performance.now() - frozenAt)}`,
  );
  const begin = performance.now();
  const filesThen = writer.files;
  const last = await finished;
  const took = performance.now() - begin;
  const during = writer.files - filesThen;
  await writer.wrote(10);
  good(`finished in ${seconds(took)}, while ${count(during)} files were written and made durable`);

  heading('The proof');
  await snapbak('verify', backup);
  good('snapbak verify: every checksum of the backup is right');
  await snapbak('restore', backup, restored);
  good('snapbak restore: restored.img');
  const check = await capture('e2fsck', ['-fn', restored]);
  if (check.code !== 0)
    throw new Failure(`e2fsck -fn: exit status ${check.code}\n${check.stdout}${check.stderr}`);
  good('e2fsck -fn: the restored file system is clean');
  const after = await withMountedImage('ext4', restored, join(folder, 'restored'), hashTree);
  const differ = [...before].filter(([path, hash]) => after.get(path) !== hash).map(([path]) => path);
  const extra = [...after.keys()].filter((path) => !before.has(path));
  if (differ.length > 0 || extra.length > 0) {
    throw new Failure(
      `THE BACKUP IS WRONG. Not as at the start instant: ${differ.slice(0, 5).join(', ') || 'none'}; ` +
        `not there at the start instant: ${extra.slice(0, 5).join(', ') || 'none'}`,
    );
  }
  const live = await hashTree(fs.mountPoint);
  const changed = [...live].filter(([path, hash]) => before.get(path) !== hash).length;
  good(`mounted read-only: all ${before.size} files are byte for byte those of the start instant`);
  await writer.stop();
  if (during === 0) throw new Failure('the writer did not write during the backup: this proves nothing');

  summary('Proven: the backup is the disk as it stood at one instant, and the disk lived on.', [
    ['files identical', count(before.size)],
    ['changed on the live disk since', count(changed)],
    [
      'written during the backup',
      `${count(during)} files, slowest ${seconds(writer.slowestMs)} (the freeze included)`,
    ],
    ...figures(last.stats),
    ['backup took', seconds(took)],
  ]);
}

/** What a backup tells of itself: the `finished` event of the command, or `stats()`. */
function figures({ readBytes, capturedBlocks, writers }) {
  return [
    ['read from the disk', bytes(readBytes)],
    ['captured before a write', `${count(capturedBlocks)} blocks`],
    ['writes held back', `${count(writers.held)}, longest ${seconds(writers.heldMaxMs)}`],
  ];
}

async function hashImage(path) {
  const hash = createHash('sha256');
  for await (const chunk of createReadStream(path, { highWaterMark: MiB })) hash.update(chunk);
  return hash.digest('hex');
}

async function embeddedStory(cleanup) {
  const snapbakCore = await import(new URL('../dist/index.js', import.meta.url));
  const folder = cleanup.folder('quickstart');
  const image = join(folder, 'disk.img');
  const size = 128 * MiB;

  heading('A disk image, written to by this program');
  writeFileSync(image, '');
  truncateSync(image, size);
  const origin = await snapbakCore.openEmbedded(image);
  cleanup.defer('close the origin', () => origin.close());
  // what the disk must hold, kept beside it
  const model = randomBytes(size);
  for (let at = 0; at < size; at += 4 * MiB) await origin.write(at, model.subarray(at, at + 4 * MiB));
  await origin.flush();
  good(`${bytes(size)} of random data`);

  const state = { writes: 0, bytes: 0, stop: false, slowestMs: 0 };
  const writeOn = async () => {
    while (!state.stop) {
      const length = 512 + Math.floor(Math.random() * 65_536);
      const at = Math.floor(Math.random() * (size - length));
      const data = randomBytes(length);
      const begin = performance.now();
      await origin.write(at, data);
      state.slowestMs = Math.max(state.slowestMs, performance.now() - begin);
      data.copy(model, at);
      state.writes += 1;
      state.bytes += length;
    }
  };

  heading('An online backup');
  const target = snapbakCore.directoryTarget(join(folder, 'backup'));
  const before = createHash('sha256').update(model).digest('hex');
  const begin = performance.now();
  const backup = await snapbakCore.startBackup({ origin, target, rate: 48 * MiB });
  cleanup.defer('end the backup', () => backup[Symbol.asyncDispose]());
  good('the point in time is fixed');
  const writing = writeOn();
  cleanup.defer('stop the writer', () => {
    state.stop = true;
    return writing;
  });
  await backup.finished;
  const took = performance.now() - begin;
  const during = state.writes;
  const stats = backup.stats();
  good(`finished in ${seconds(took)}, while ${count(during)} writes went on`);
  state.stop = true;
  await writing;
  await origin.flush();
  if (during === 0) throw new Failure('nothing was written during the backup: this proves nothing');

  heading('The proof');
  await snapbakCore.verify({ backup: join(folder, 'backup') });
  good('every checksum of the backup is right');
  await snapbakCore.restore({ backup: join(folder, 'backup'), to: join(folder, 'restored.img') });
  if ((await hashImage(join(folder, 'restored.img'))) !== before) {
    throw new Failure('THE BACKUP IS WRONG: the restored image is not the disk of the start instant');
  }
  good('restored: byte for byte the disk of the start instant');
  if ((await hashImage(image)) !== createHash('sha256').update(model).digest('hex')) {
    throw new Failure('THE DISK IS WRONG: it does not hold what was written last');
  }
  good('the disk itself holds every write that was acknowledged');

  summary('Proven: the backup is the disk as it stood at one instant, and the disk lived on.', [
    ['bytes identical', bytes(statSync(join(folder, 'restored.img')).size)],
    [
      'written during the backup',
      `${count(during)} writes, ${bytes(state.bytes)}, slowest ${seconds(state.slowestMs)}`,
    ],
    ...figures(stats),
    ['backup took', seconds(took)],
  ]);
}

/** Why the live story cannot be told here; installs what it may. */
async function whyNotLive() {
  if (values.embedded) return ['--embedded was given'];
  const obstacles = await liveObstacles();
  if (obstacles.length > 0) return obstacles;
  if (!mayInstall()) {
    const missing = missingPackages(LIVE_PACKAGES);
    return missing.length > 0 ? [`not installed: ${missing.join(', ')}`] : [];
  }
  try {
    await ensurePackages(LIVE_PACKAGES, 'to serve and mount a disk image');
    return [];
  } catch (error) {
    return [error.message];
  }
}

let cleanup;
let ending;
async function end(signal) {
  if (ending) return;
  ending = true;
  console.log(`\n${signal}: cleaning up`);
  await cleanup?.run().catch((error) => console.error(error.message));
  process.exit(signal === 'SIGINT' ? 130 : 143);
}
process.on('SIGINT', () => void end('SIGINT'));
process.on('SIGTERM', () => void end('SIGTERM'));

try {
  console.log(`${cyan(bold('Snapbak'))}  online backup of a disk that applications keep writing to`);
  heading('Set-up');
  const obstacles = await whyNotLive();
  await ensureBuilt();
  good('built');
  const { tsImport } = await import('tsx/esm/api');
  const load = (name) => tsImport(`../test/helpers/${name}.ts`, import.meta.url);
  const [{ Cleanup }, mounted, writer] = await Promise.all(
    ['cleanup', 'mounted-fs', 'live-writer'].map(load),
  );
  cleanup = new Cleanup();
  try {
    if (obstacles.length > 0) {
      for (const obstacle of obstacles) note(obstacle);
      note('so no file system is mounted: the embedded driver shows the same, in this process');
      await embeddedStory(cleanup);
    } else {
      await liveStory(cleanup, { ...mounted, ...writer });
    }
  } finally {
    // after a signal the handler cleans up, and what fails here is only its echo
    if (!ending) await cleanup.run();
  }
  console.log(dim('\nNext: README.md, and `npx snapbak --help`'));
} catch (error) {
  if (!ending) {
    console.error(error instanceof Failure ? `\n${error.message}` : error);
    process.exitCode = 1;
  }
}
