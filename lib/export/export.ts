/**
 * A device of this process (a point-in-time view, a restore on demand) shown to
 * NBD clients by an nbdkit of its own. nbdkit ends when this process does: its
 * sockets to the device are closed then, and there is nothing left to show.
 */
import { closeSync } from 'node:fs';
import type { NativeExportable } from '../binding.js';
import { findExportPlugin, findNbdkit } from '../serve/nbdkit.js';
import { type NbdkitProcess, type ServerExit, startNbdkit } from '../serve/nbdkit-process.js';
import { clearSocket } from '../serve/sockets.js';

export interface ExportOptions {
  device: Pick<NativeExportable, 'serve'>;
  /** Bytes of the device. */
  size: number;
  readOnly: boolean;
  /** Unix socket for NBD clients, absolute and checked (`checkedSocket`); made with mode 0600. */
  socket: string;
  /** What is shown, for errors. */
  name: string;
  /** Requests that are under way at once. Default: 16, as many as nbdkit has threads for a client */
  connections?: number;
  /** Each line that nbdkit says while it serves. Default: nobody listens. */
  onMessage?: ((line: string) => void) | undefined;
  signal?: AbortSignal | undefined;
}

/** A running export. */
export interface Export {
  readonly socket: string;
  /** How NBD clients name it. */
  readonly uri: string;
  /** nbdkit's process. */
  readonly pid: number;
  /** Resolves when nbdkit has ended, for whatever reason; never rejects. */
  readonly exited: Promise<ServerExit>;
  /** Ends it; clients are cut off after two seconds. The device stays open. Idempotent. */
  stop(): Promise<void>;
}

/** Programs that tests replace. */
export interface ExportPrograms {
  nbdkit?: () => string;
  plugin?: () => string;
}

const CONNECTIONS = 16;

/**
 * Finds what `startExport` needs and makes the socket's place free, for a
 * caller who changes something before it.
 *
 * @throws SnapbakError `ERR_SNAPBAK_MISSING` without nbdkit or its plugin,
 *   `ERR_SNAPBAK_ORIGIN` if something else is at the socket's place
 */
export async function prepareExport(
  socket: string,
  programs: ExportPrograms = {},
): Promise<Required<ExportPrograms>> {
  const program = (programs.nbdkit ?? findNbdkit)();
  const plugin = (programs.plugin ?? findExportPlugin)();
  await clearSocket(socket);
  return { nbdkit: () => program, plugin: () => plugin };
}

/**
 * Shows `device` at `socket`, and resolves when clients can connect. The device
 * is closed by whoever opened it, after `stop()`; he also keeps it from being
 * collected until then, which would end its clients.
 *
 * @throws SnapbakError `ERR_SNAPBAK_MISSING` without nbdkit or its plugin,
 *   `ERR_SNAPBAK_ORIGIN` with what nbdkit said, `ERR_SNAPBAK_ABORTED` by the signal
 */
export async function startExport(options: ExportOptions, programs: ExportPrograms = {}): Promise<Export> {
  const { device, size, readOnly, socket, name, onMessage, signal } = options;
  const program = (programs.nbdkit ?? findNbdkit)();
  const plugin = (programs.plugin ?? findExportPlugin)();
  const descriptors = device.serve(options.connections ?? CONNECTIONS);
  let nbdkit: NbdkitProcess;
  try {
    const args = exportArguments({ plugin, socket, size, readOnly, connections: descriptors.length });
    nbdkit = await startNbdkit({ program, args, descriptors, socket, image: name, onMessage, signal });
  } finally {
    // nbdkit has its own by now; while we held these, its end would not be seen
    for (const fd of descriptors) closeSync(fd);
  }
  const { uri, pid, exited } = nbdkit;
  return { socket, uri, pid, exited, stop: () => nbdkit.stop() };
}

interface ExportArguments {
  plugin: string;
  socket: string;
  size: number;
  readOnly: boolean;
  connections: number;
}

/** nbdkit's command line; it inherits the connections as descriptors from 3 on. */
export function exportArguments({ plugin, socket, size, readOnly, connections }: ExportArguments): string[] {
  const args = ['-f', '-U', socket];
  if (readOnly) args.push('-r');
  return [...args, plugin, `fds=3-${2 + connections}`, `size=${size}`, `readonly=${readOnly}`];
}
