/** An NBD export as a file, by nbdfuse: what the tools of file systems can open. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdir, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { findProgram } from '../../find-program.js';
import { linesOf, runTool } from './tool.js';

const PATIENCE_MS = 20_000;
const LOOK_MS = 20;

export interface ShownFile extends AsyncDisposable {
  readonly path: string;
}

/**
 * @param folder of ours; the mount point is made in it
 * @throws Error that says what is missing, or what nbdfuse said
 */
export async function nbdfuse(uri: string, folder: string): Promise<ShownFile> {
  const program = findProgram('nbdfuse');
  if (program === undefined) throw new Error('nbdfuse is not installed');
  if (findProgram('fusermount3') === undefined) throw new Error('fusermount3 is not installed');
  const mountPoint = join(folder, 'fuse');
  await mkdir(mountPoint);
  // a group of its own: a Ctrl-C is for us, who end it in order
  const child = spawn(program, [mountPoint, uri], {
    stdio: ['ignore', 'ignore', 'pipe'],
    detached: true,
  });
  let said = '';
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    if (said.length < 400) said += text;
  });
  const gone = once(child, 'close').then(
    () => {},
    () => {},
  );
  let ended = false;
  void gone.then(() => {
    ended = true;
  });
  const close = async () => {
    for (const end = performance.now() + PATIENCE_MS; !ended && performance.now() < end; ) {
      const unmounted = await linesOf(runTool, 'fusermount3', ['-u', mountPoint]).then(
        () => true,
        () => false,
      );
      if (unmounted) break;
      await Promise.race([gone, new Promise((resolve) => setTimeout(resolve, LOOK_MS))]);
    }
    const forced = setTimeout(() => child.kill('SIGKILL'), 2000);
    await gone;
    clearTimeout(forced);
    // one that died by itself leaves its mount
    await linesOf(runTool, 'fusermount3', ['-u', '-z', mountPoint]).catch(() => {});
  };
  const path = join(mountPoint, 'nbd');
  for (const end = performance.now() + PATIENCE_MS; ; ) {
    if (await stat(path).catch(() => undefined)) return { path, [Symbol.asyncDispose]: close };
    if (ended || performance.now() > end) {
      await close();
      throw new Error(`nbdfuse shows nothing: ${said.trim() || 'it says no reason'}`);
    }
    await Promise.race([gone, new Promise((resolve) => setTimeout(resolve, LOOK_MS))]);
  }
}
