/**
 * Shares folders of the host with a guest: one virtiofsd each. The host's root is shared read-only, and not
 * only by the guest's good will: virtiofsd runs in a mount namespace where nothing can be written.
 */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { type Child, startChild } from './child.js';
import { VmError } from './errors.js';
import { rootFolder } from './scratch.js';

const VIRTIOFSD = '/usr/lib/qemu/virtiofsd';

/** Runs in a new mount namespace: sees the host's tree below $2, all of it read-only. */
const READ_ONLY = `
set -e
mount --rbind / "$2"
findmnt -Rrno TARGET "$2" | while read -r target; do
  mount -o remount,bind,ro "$(printf '%b' "$target")"
done
exec "$0" -o source="$2" --socket-path="$1" $3`;

export interface Share {
  tag: string;
  child: Child;
  /** Arguments for QEMU. */
  args: string[];
}

/** Starts to share `folder` (`/` is read-only, anything else may be written) under `tag`. */
export async function startShare(tag: string, folder: string, scratch: string): Promise<Share> {
  if (!existsSync(VIRTIOFSD)) {
    throw new VmError('rig', `there is no ${VIRTIOFSD}: apt-get install qemu-system-common`);
  }
  const socket = join(scratch, `${tag}.sock`);
  const options = '-o cache=always -o sandbox=chroot -o log_level=err --rlimit-nofile=0 -f';
  const args = ['-m', '--propagation', 'private'];
  if (folder === '/') args.push('bash', '-c', READ_ONLY, VIRTIOFSD, socket, rootFolder(scratch), options);
  else args.push(VIRTIOFSD, '-o', `source=${folder}`, `--socket-path=${socket}`, ...options.split(' '));
  const child = startChild('unshare', args, ['ignore', 'ignore', 'pipe']);
  let said = '';
  child.process.stderr?.setEncoding('utf8').on('data', (text: string) => {
    said += text;
  });
  for (let tries = 0; !existsSync(socket); tries += 1) {
    if (tries === 1500 || child.process.exitCode !== null) {
      await child.kill();
      throw new VmError('rig', `virtiofsd does not share ${folder}: ${said.trim()}`);
    }
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  const device = `vhost-user-fs-pci,chardev=${tag},tag=${tag},queue-size=1024`;
  return { tag, child, args: ['-chardev', `socket,id=${tag},path=${socket}`, '-device', device] };
}
