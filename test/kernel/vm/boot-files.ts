/**
 * What QEMU is given of a kernel: an image that it starts by the PVH entry, without a boot loader, and an
 * initramfs of busybox, the virtio modules and init.sh. Made once a kernel, kept in its folder.
 */
import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import {
  copyFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  renameSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { basename, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { VmError } from './errors.js';
import type { Kernel } from './kernel.js';

const BUSYBOX = '/bin/busybox';

/** What an initramfs does, and what it needs for that. */
export interface Init {
  /** Its first process, a script for busybox. */
  script: string;
  applets: string[];
  modules: string[];
}

/** Runs a command in a guest that shares the host's root. */
const SHARED_ROOT: Init = {
  script: readFileSync(fileURLToPath(new URL('init.sh', import.meta.url)), 'utf8'),
  applets: 'cat chroot hostname insmod ip kill ln mkdir mkfifo mount poweroff sh sleep'.split(' '),
  modules: ['virtio_pci', 'virtio_blk', 'virtio_console', 'overlay', 'virtiofs'],
};

export interface BootFiles {
  image: string;
  initrd: string;
}

export function bootFiles(kernel: Kernel, init = SHARED_ROOT): BootFiles {
  const { script, applets, modules } = init;
  const key = createHash('sha256').update(script).update(applets.join()).update(modules.join()).digest('hex');
  const folder = join(kernel.folder, 'vm');
  mkdirSync(folder, { recursive: true });
  // a kernel with KASAN cannot start by its PVH entry: the firmware loads it
  const image = kernel.debug
    ? kernel.image
    : once(join(folder, 'vmlinux'), (path) => writeFileSync(path, unpackImage(kernel.image)));
  const initrd = once(join(folder, `initrd-${key.slice(0, 12)}`), (path) => packInitrd(kernel, init, path));
  return { image, initrd };
}

/** Makes a file when it is not there, and never leaves half of one. */
function once(path: string, make: (path: string) => void): string {
  if (existsSync(path)) return path;
  const fresh = `${path}.${process.pid}`;
  try {
    make(fresh);
    renameSync(fresh, path);
  } finally {
    rmSync(fresh, { force: true });
  }
  return path;
}

/** The ELF file within a bzImage. Offsets: Documentation/arch/x86/boot.rst, "The Real-Mode Kernel Header". */
function unpackImage(path: string): Buffer {
  const image = readFileSync(path);
  const start = ((image[0x1f1] || 4) + 1) * 512 + image.readUInt32LE(0x248);
  // the last four bytes are the size of what comes out, but for gzip, which has it in its own format
  const packed = image.subarray(start, start + image.readUInt32LE(0x24c));
  const unpackers: [magic: string, command: string, args: string[], trailer: number][] = [
    ['fd377a585a00', 'xz', ['-dc', '--single-stream'], 4],
    ['28b52ffd', 'zstd', ['-qdc'], 4],
    ['02214c18', 'lz4', ['-dc'], 4],
    ['1f8b08', 'gzip', ['-dc'], 0],
  ];
  const magic = packed.subarray(0, 6).toString('hex');
  const unpacker = unpackers.find(([begin]) => magic.startsWith(begin));
  if (unpacker === undefined) throw new VmError('rig', `${path}: unknown compression (${magic})`);
  const [, command, args, trailer] = unpacker;
  const elf = execFileSync(command, args, {
    input: packed.subarray(0, packed.length - trailer),
    maxBuffer: 1 << 30,
    stdio: ['pipe', 'pipe', 'ignore'],
  });
  if (elf.subarray(1, 4).toString() !== 'ELF') throw new VmError('rig', `${path}: holds no ELF image`);
  return elf;
}

function packInitrd(kernel: Kernel, { script, applets, modules }: Init, path: string): void {
  const root = mkdtempSync(join(kernel.folder, 'vm', 'initrd-root-'));
  try {
    for (const name of ['bin', 'modules', 'proc', 'sys', 'dev', 'lower', 'upper', 'new']) {
      mkdirSync(join(root, name));
    }
    copyFileSync(BUSYBOX, join(root, 'bin/busybox'));
    for (const applet of applets) symlinkSync('busybox', join(root, 'bin', applet));
    writeFileSync(join(root, 'init'), script, { mode: 0o755 });
    const order: string[] = [];
    for (const file of moduleFiles(kernel, modules)) {
      const name = basename(file).replace(/\.(xz|zst|gz)$/, '');
      order.push(name);
      writeFileSync(join(root, 'modules', name), unpackModule(file));
    }
    writeFileSync(join(root, 'modules/order'), order.map((name) => `${name}\n`).join(''));
    execFileSync('sh', ['-c', 'find . | cpio -o -H newc --quiet >"$0"', path], { cwd: root });
  } finally {
    rmSync(root, { recursive: true, force: true });
  }
}

/** The files of the modules that the initramfs loads, in the order of their dependencies. */
function moduleFiles({ folder, release }: Kernel, modules: string[]): string[] {
  const files = modules.flatMap((name) => {
    const shown = execFileSync('modprobe', ['-d', folder, '-S', release, '--show-depends', name], {
      encoding: 'utf8',
    });
    return [...shown.matchAll(/^insmod (\S+)/gm)].map(([, file]) => file!);
  });
  return [...new Set(files)];
}

function unpackModule(file: string): Buffer {
  const options = { maxBuffer: 1 << 28 };
  if (file.endsWith('.xz')) return execFileSync('xz', ['-dc', file], options);
  if (file.endsWith('.zst')) return execFileSync('zstd', ['-qdc', file], options);
  if (file.endsWith('.gz')) return execFileSync('gzip', ['-dc', file], options);
  return readFileSync(file);
}
