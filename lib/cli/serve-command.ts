/**
 * `snapbak serve IMAGE --socket NBD_SOCKET --control CONTROL_SOCKET`: runs the
 * user driver in the foreground until it is told to stop.
 */
import type { Command } from 'commander';
import { SnapbakError } from '../errors.js';
import { type ImageServer, type ServeOptions, serve } from '../serve.js';

/** What the command needs of the world; tests have one of their own. */
export interface ServeCommandHost {
  serve(options: ServeOptions): Promise<ImageServer>;
  /** One line on standard output. */
  print(line: string): void;
  /** One line on standard error. */
  warn(line: string): void;
}

const STOP_SIGNALS = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const;

const thisProcess: ServeCommandHost = {
  serve,
  print: (line) => void process.stdout.write(`${line}\n`),
  warn: (line) => void process.stderr.write(`${line}\n`),
};

interface Flags {
  socket: string;
  control: string;
  readOnly?: boolean;
  json?: boolean;
}

/** Adds the subcommand. Its action rejects when the server fails: the caller says so and exits with 1. */
export function registerServe(program: Command, host: ServeCommandHost = thisProcess): Command {
  return program
    .command('serve')
    .description('serve a disk image over NBD so that it can be backed up while it is written to')
    .argument('<image>', 'image file or block device')
    .requiredOption('--socket <path>', 'Unix socket for NBD clients')
    .requiredOption('--control <path>', 'Unix socket for backups, as in `snapbak backup unix:PATH`')
    .option('--read-only', 'export it without writes')
    .option('--json', 'one JSON object a line')
    .action((image: string, flags: Flags) => runServe(image, flags, host));
}

async function runServe(image: string, flags: Flags, host: ServeCommandHost): Promise<void> {
  const abort = new AbortController();
  const stop = () => abort.abort();
  // before nbdkit starts: a Ctrl-C in the first moments must not leave it behind
  for (const signal of STOP_SIGNALS) process.on(signal, stop);
  try {
    const server = await host.serve({
      image,
      socket: flags.socket,
      control: flags.control,
      readOnly: flags.readOnly ?? false,
      onMessage: (line) => host.warn(line),
      signal: abort.signal,
    });
    started(server, flags, host);
    const { asked, code, signal, messages } = await server.exited;
    if (asked || abort.signal.aborted) {
      if (flags.json) host.print(JSON.stringify({ event: 'finished' }));
      return;
    }
    throw new SnapbakError(
      'ERR_SNAPBAK_ORIGIN',
      `nbdkit ended (${signal ?? `exit status ${code}`})${messages.length > 0 ? `: ${messages.at(-1)}` : ''}; ` +
        'every write that it acknowledged and flushed is on the image',
      { path: server.image },
    );
  } catch (error) {
    // asked to stop before it ran: that is no failure
    if (!abort.signal.aborted) throw error;
  } finally {
    for (const signal of STOP_SIGNALS) process.off(signal, stop);
  }
}

function started(server: ImageServer, flags: Flags, host: ServeCommandHost): void {
  if (flags.json) {
    const { image, socket, control, uri, pid } = server;
    const readOnly = flags.readOnly ?? false;
    host.print(JSON.stringify({ event: 'started', image, socket, control, uri, readOnly, pid }));
    return;
  }
  host.print(`serving ${server.image}${flags.readOnly ? ' (read-only)' : ''}`);
  host.print(`  NBD:     ${server.uri}`);
  host.print(`  backups: unix:${server.control}`);
}
