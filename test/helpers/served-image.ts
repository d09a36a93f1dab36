/** An image that `snapbak serve` exports, and the names of all that a scenario makes around it. */
import { join } from 'node:path';
import { readManifest } from '../../lib/manifest.js';
import type { Cleanup } from './cleanup.js';
import { CliRun, snapbakExits } from './cli.js';
import { makeImage } from './images.js';
import { must, needPrograms, until } from './programs.js';

export interface ServedImage {
  /** A folder of this scenario's own. */
  folder: string;
  /** The image file, or the device. */
  image: string;
  /** The export's socket, and how NBD clients name it. */
  nbdSocket: string;
  uri: string;
  /** `unix:CONTROL_SOCKET`. */
  origin: string;
  controlSocket: string;
  /** The running `snapbak serve`. */
  server: CliRun;
}

/** Serves `image`, or a new one of `size` stamped bytes, until the cleanup runs. */
export async function serveImage(
  cleanup: Cleanup,
  { size, image }: { size?: number; image?: string },
): Promise<ServedImage> {
  needPrograms('nbdkit');
  const folder = cleanup.folder('scenario');
  const path = image ?? join(folder, 'disk.img');
  if (size !== undefined) await makeImage(path, size);
  const nbdSocket = join(folder, 'nbd.sock');
  const controlSocket = join(folder, 'control.sock');
  const server = new CliRun(['serve', path, '--socket', nbdSocket, '--control', controlSocket, '--json'], {
    timeoutMs: 900_000,
  });
  cleanup.defer('end snapbak serve', async () => {
    const forced = setTimeout(() => server.child.kill('SIGKILL'), 15_000);
    await server.kill('SIGTERM');
    clearTimeout(forced);
  });
  await server.event('started');
  const uri = `nbd+unix:///?socket=${nbdSocket}`;
  return { folder, image: path, nbdSocket, uri, controlSocket, origin: `unix:${controlSocket}`, server };
}

/** Starts `snapbak backup --json`; the cleanup ends it if it still runs. */
export function startBackup(
  cleanup: Cleanup,
  origin: string,
  directory: string,
  ...options: string[]
): CliRun {
  const backup = new CliRun(['backup', origin, directory, '--json', ...options]);
  cleanup.defer('end snapbak backup', () => backup.kill());
  return backup;
}

/** Runs commands of qemu-io on the export, all of which must succeed. */
export async function qemuIo(uri: string, ...commands: string[]): Promise<string> {
  needPrograms('qemu-io');
  const output = await must('qemu-io', [
    '-f',
    'raw',
    '-d',
    'unmap',
    ...commands.flatMap((text) => ['-c', text]),
    uri,
  ]);
  if (/failed|error/i.test(output)) throw new Error(`qemu-io ${commands.join('; ')}\n${output}`);
  return output;
}

/** Restores a backup to a new file, after it was verified, and gives the file's path. */
export async function restored(directory: string, name = 'restored.img'): Promise<string> {
  await snapbakExits(0, 'verify', directory);
  const path = join(directory, '..', name);
  await snapbakExits(0, 'restore', directory, path);
  return path;
}

/** True when the directory's manifest says that the backup is good. */
export async function saysComplete(directory: string): Promise<boolean> {
  const manifest = await readManifest(directory).catch(() => undefined);
  return manifest !== undefined && manifest.state !== 'broken';
}

/** Waits until the origin has no session. */
export async function untilIdle(origin: string): Promise<void> {
  const { openOrigin } = await import('../../lib/origin.js');
  await until('the origin has no session', async () => {
    const opened = await openOrigin(origin);
    try {
      const { state, slots } = await opened.status();
      return slots === 0 || state === 'finished' || state === 'broken';
    } finally {
      await opened.close();
    }
  });
}
