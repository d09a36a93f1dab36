/**
 * A disk with a small system of its own, and a machine that boots it over NBD: the system's first process
 * reads every file, compares it with its hash, and says on the serial console what it found.
 */
import { createHash, randomBytes } from 'node:crypto';
import { copyFileSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { must } from '../../helpers/programs.js';
import { bootFiles, type Init } from '../vm/boot-files.js';
import { startChild } from '../vm/child.js';
import { clockWords } from '../vm/machine.js';
import { findKernel } from '../vm/kernel.js';

const FILES = 24;
const FILE_SIZE = 640 * 1024 + 77;

/** Where the system leaves a word when it may write. */
export const MARK = '/mark';
export const MARK_TEXT = 'a guest was here';

/** What it says when it found all as it was made. */
export const WHOLE = `the disk's system is up: ${FILES} of ${FILES} files are whole`;

const SYSTEM = `#!/bin/busybox sh
PATH=/bin
whole=0
while read -r hash name; do
  found=$(sha256sum "/files/$name") && [ "\${found%% *}" = "$hash" ] && whole=$((whole + 1))
done </hashes
case " $(cat /proc/cmdline) " in *' rw '*)
  echo '${MARK_TEXT}' >${MARK}
  mount -o remount,ro / || echo 'it cannot be made read-only again'
  ;;
esac
echo "the disk's system is up: $whole of $(wc -l </hashes) files are whole"
poweroff -f -n
`;

/** Makes an image of `size` bytes with an ext4 that holds the system; `folder` holds its files on the way. */
export async function makeBootableDisk(image: string, size: number, folder: string): Promise<void> {
  const root = join(folder, 'system');
  for (const name of ['bin', 'sbin', 'dev', 'proc', 'files']) {
    mkdirSync(join(root, name), { recursive: true });
  }
  copyFileSync('/bin/busybox', join(root, 'bin/busybox'));
  for (const applet of ['cat', 'mount', 'poweroff', 'sha256sum', 'wc']) {
    await must('ln', ['-s', 'busybox', join(root, 'bin', applet)]);
  }
  writeFileSync(join(root, 'sbin/init'), SYSTEM, { mode: 0o755 });
  const hashes = Array.from({ length: FILES }, (_, index) => {
    const content = randomBytes(FILE_SIZE);
    writeFileSync(join(root, 'files', `file-${index}`), content);
    return `${createHash('sha256').update(content).digest('hex')} file-${index}\n`;
  });
  writeFileSync(join(root, 'hashes'), hashes.join(''));
  await must('mkfs.ext4', ['-q', '-F', '-d', root, image, `${size / 1024}k`]);
}

const OWN_DISK: Init = {
  script: readFileSync(fileURLToPath(new URL('../vm/init-disk.sh', import.meta.url)), 'utf8'),
  applets: ['cat', 'insmod', 'mount', 'poweroff', 'sh', 'switch_root'],
  modules: ['virtio_pci', 'virtio_blk'],
};

export interface BootOptions {
  /** May the system write to the disk? Else what it writes is thrown away with the machine. */
  writable: boolean;
  /** 120,000 by default. */
  timeoutMs?: number;
}

/** Boots the disk at an NBD URI, waits until the machine is off again, and gives what its console said. */
export async function bootDisk(uri: string, { writable, timeoutMs = 120_000 }: BootOptions): Promise<string> {
  // whatever kernel is tested: no driver runs in this machine
  const kernel = findKernel('debian12');
  const { image, initrd } = bootFiles(kernel, OWN_DISK);
  const words = [
    'console=ttyS0 loglevel=5 panic=-1 oops=panic mitigations=off nokaslr noreplace-smp nowatchdog',
    clockWords(kernel),
    writable ? 'rw' : 'ro',
  ];
  const qemu = startChild(
    'qemu-system-x86_64',
    [
      ...['-nodefaults', '-no-user-config', '-display', 'none', '-no-reboot', '-serial', 'stdio'],
      ...['-L', '/usr/share/qemu', '-L', '/usr/share/seabios'],
      ...['-machine', 'microvm,pcie=on,acpi=on,rtc=on,isa-serial=on'],
      ...['-accel', 'tcg', '-cpu', 'max,la57=off,-smap,-smep', '-m', '256M'],
      ...['-kernel', image, '-initrd', initrd, '-append', words.join(' ')],
      ...['-drive', `file=${uri},if=none,id=disk,format=raw,snapshot=${writable ? 'off' : 'on'}`],
      ...['-device', 'virtio-blk-pci,drive=disk'],
    ],
    ['ignore', 'pipe', 'pipe'],
  );
  let said = '';
  for (const stream of [qemu.process.stdout, qemu.process.stderr]) {
    stream?.setEncoding('utf8').on('data', (text: string) => {
      said += text.replaceAll('\r', '');
    });
  }
  const timer = setTimeout(() => void qemu.kill(), timeoutMs);
  const { code, signal } = await qemu.ended;
  clearTimeout(timer);
  if (code === 0) return said;
  throw new Error(`QEMU ended with ${signal ?? `exit status ${code}`}, and its console said:\n${said}`);
}
