/** fio as the application: a random load through the export that verifies all it wrote. */
import type { ChildProcess } from 'node:child_process';
import type { Cleanup } from './cleanup.js';
import { ended, needPrograms, type Result, start } from './programs.js';

export interface Load {
  child: ChildProcess;
  /** True until fio ended. */
  running(): boolean;
  /** Its end; fails unless every write succeeded and was read back. */
  verified(): Promise<void>;
}

/**
 * @param size bytes of the device that it writes to, from the beginning
 * @param bytes how much it writes in all
 * @param rate bytes a second, so that it lasts
 */
export function startLoad(
  cleanup: Cleanup,
  uri: string,
  { size, bytes, rate }: { size: number; bytes: number; rate: number },
): Load {
  needPrograms('fio');
  const child = start('fio', [
    '--name=load',
    '--ioengine=nbd',
    `--uri=${uri}`,
    '--rw=randwrite',
    '--bsrange=4k-64k',
    '--blockalign=4k',
    '--iodepth=8',
    `--size=${size}`,
    `--io_size=${bytes}`,
    `--rate=${rate}`,
    '--verify=crc32c',
    '--verify_fatal=1',
    '--verify_state_save=0',
  ]);
  const end: Promise<Result> = ended(child);
  let done = false;
  void end.then(
    () => {
      done = true;
    },
    () => {
      done = true;
    },
  );
  cleanup.defer('end fio', async () => {
    if (!done) child.kill('SIGKILL');
    await end;
  });
  return {
    child,
    running: () => !done,
    async verified() {
      const { code, signal, stdout, stderr } = await end;
      if (code !== 0) throw new Error(`fio: ${signal ?? `exit status ${code}`}\n${stdout}${stderr}`);
    },
  };
}
