/** What the figures depend on: the machine and the versions, kept beside them. */
import { execFileSync } from 'node:child_process';
import { cpus, loadavg, release, totalmem } from 'node:os';

export function machineFacts(): Record<string, unknown> {
  return {
    time: new Date().toISOString(),
    cpu: cpus()[0]?.model ?? 'unknown',
    cpus: cpus().length,
    memoryBytes: totalmem(),
    loadBefore: loadavg()[0],
    kernel: release(),
    node: process.version,
    fio: firstLine('fio', '--version'),
    nbdkit: firstLine('nbdkit', '--version'),
    nbdcopy: firstLine('nbdcopy', '--version'),
    qemuStorageDaemon: firstLine('qemu-storage-daemon', '--version'),
    qemuImg: firstLine('qemu-img', '--version'),
    dd: firstLine('dd', '--version'),
    commit: firstLine('git', 'rev-parse', 'HEAD'),
  };
}

function firstLine(program: string, ...options: string[]): string {
  try {
    const text = execFileSync(program, options, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] });
    return text.split('\n')[0] ?? '';
  } catch {
    return 'not found';
  }
}
