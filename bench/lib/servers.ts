/**
 * The contenders: each starts a server of the image on the server's CPU, ready when the promise resolves.
 * All are started directly and pinned alike; ours runs as `snapbak serve` runs it.
 */
import { existsSync, readFileSync } from 'node:fs';
import type { Context } from './context.js';
import { Child } from './processes.js';
import { Qmp } from './qmp.js';

export interface Server {
  /** The NBD socket. */
  socket: string;
  pid: number;
  stop(): Promise<void>;
}

export interface NbdkitServer extends Server {
  /** What it said on stderr. */
  said(): string;
}

export interface SnapbakServer extends NbdkitServer {
  /** The control socket. */
  control: string;
}

export interface JobServer extends Server {
  /** Starts the backup job, with a limit in bytes a second or none; resolves with the seconds that it took. */
  backup(rate?: number): Promise<number>;
}

/** How qemu-storage-daemon serves the image. */
export type QsdKind =
  /** The file node itself. */
  | 'plain'
  /**
   * A copy-before-write filter over it, its target on tmpfs, allocated before; nothing drains that. With
   * `targetRate` the target takes so many bytes a second.
   */
  | 'cbw'
  /** The same with a snapshot-access node above, from which the job copies ("fleecing"). */
  | 'cbw-fleecing'
  /** `blockdev-backup` with sync=full on the file node; the job puts its own filter above it. */
  | 'backup-job';

export async function startQsd(context: Context, kind: QsdKind, targetRate?: number): Promise<JobServer> {
  const { workspace, imageSize, cpus } = context;
  const socket = workspace.unique('qsd.nbd');
  const monitor = workspace.unique('qsd.qmp');
  const raw = (node: string, path: string) => [
    '--blockdev',
    `driver=file,node-name=${node},filename=${path}`,
  ];
  const throttled = (node: string, name: string, bytesPerSecond: number) => [
    '--object',
    `throttle-group,id=group,x-bps-write=${bytesPerSecond}`,
    '--blockdev',
    `driver=throttle,node-name=${name},throttle-group=group,file=${node}`,
  ];
  const filtered = kind === 'cbw' || kind === 'cbw-fleecing';
  const withJob = kind === 'cbw-fleecing' || kind === 'backup-job';
  const child = new Child(
    'qemu-storage-daemon',
    [
      'qemu-storage-daemon',
      ...raw('image', context.image),
      ...(filtered
        ? [
            ...raw('before', workspace.allocatedFile('qsd-before.img', imageSize)),
            ...(targetRate === undefined ? [] : throttled('before', 'slow', targetRate)),
            '--blockdev',
            `driver=copy-before-write,node-name=cbw,file=image,target=${targetRate === undefined ? 'before' : 'slow'}`,
          ]
        : []),
      ...(kind === 'cbw-fleecing' ? ['--blockdev', 'driver=snapshot-access,node-name=start,file=cbw'] : []),
      ...(withJob ? raw('backup', workspace.sparseFile('qsd-backup.img', imageSize)) : []),
      '--nbd-server',
      `addr.type=unix,addr.path=${socket}`,
      '--export',
      `type=nbd,id=export,node-name=${filtered ? 'cbw' : 'image'},name=,writable=on`,
      '--chardev',
      `socket,id=monitor,path=${monitor},server=on,wait=off`,
      '--monitor',
      'chardev=monitor',
    ],
    { cpu: cpus.server },
  );
  await child.until(() => existsSync(monitor));
  // the greeting comes from the main loop, hence after all of the options above were carried out
  const qmp = await Qmp.connect(monitor);
  return {
    socket,
    pid: child.pid,
    async backup(rate) {
      const begin = process.hrtime.bigint();
      const device = kind === 'cbw-fleecing' ? 'start' : 'image';
      await qmp.execute('blockdev-backup', {
        'job-id': 'job',
        device,
        target: 'backup',
        sync: 'full',
        ...(rate === undefined ? {} : { speed: rate }),
      });
      const { error } = await qmp.event('BLOCK_JOB_COMPLETED');
      if (error !== undefined) throw new Error(`blockdev-backup: ${String(error)}`);
      return Number(process.hrtime.bigint() - begin) / 1e9;
    },
    async stop() {
      qmp.close();
      await child.stop();
      workspace.remove('qsd-before.img', 'qsd-backup.img');
    },
  };
}

export interface ServerOptions {
  /** Of `context` unless given. */
  image?: string;
  /** On the server's CPU alone (default), or wherever there is room. */
  pinned?: boolean;
}

/** nbdkit's own file plugin. */
export function startNbdkitFile(context: Context, options: ServerOptions = {}): Promise<NbdkitServer> {
  return startNbdkit(context, ['file', options.image ?? context.image], options);
}

/** Our plugin, with a control socket. */
export async function startSnapbak(context: Context, options: ServerOptions = {}): Promise<SnapbakServer> {
  const { plugin } = context;
  if (plugin === undefined) throw new Error('the plugin is not built: npm run build:plugin');
  const control = context.workspace.unique('control');
  const parameters = [plugin, `file=${options.image ?? context.image}`, `control=${control}`];
  return { ...(await startNbdkit(context, parameters, options)), control };
}

async function startNbdkit(
  context: Context,
  parameters: string[],
  options: ServerOptions,
): Promise<NbdkitServer> {
  const socket = context.workspace.unique('nbdkit.nbd');
  const pidFile = context.workspace.unique('nbdkit.pid');
  const command = ['nbdkit', '--foreground', '--pidfile', pidFile, '--unix', socket, ...parameters];
  const child = new Child('nbdkit', command, options.pinned === false ? {} : { cpu: context.cpus.server });
  // written once nbdkit listens
  await child.until(() => existsSync(pidFile) && readFileSync(pidFile, 'utf8').endsWith('\n'));
  return { socket, pid: child.pid, said: () => child.said, stop: () => child.stop() };
}
