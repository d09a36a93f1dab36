// The addon's threads never outlive what they belong to: a worker terminated,
// or a process that exits, in the middle of a backup ends cleanly, and the
// origin can be opened again.
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { openEmbedded } from '../../lib/index.js';
import { Cleanup } from '../helpers/cleanup.js';
import { makeImage } from '../helpers/images.js';

const PROGRAM = fileURLToPath(new URL('../helpers/short-lived.ts', import.meta.url));

describe('the end of a thread or a process in the middle of a backup', () => {
  const cleanup = new Cleanup();
  after(() => cleanup.run());

  for (const [how, words] of [
    ['worker', 'workers that are terminated'],
    ['exit', 'a process that exits'],
  ] as const) {
    it(`is clean with ${words}`, async () => {
      const image = join(cleanup.folder('lifetimes'), 'disk.img');
      await makeImage(image, 16 * 2 ** 20);
      const child = spawn(process.execPath, ['--import', 'tsx', PROGRAM, image, how], { stdio: 'pipe' });
      let said = '';
      child.stderr.setEncoding('utf8').on('data', (text: string) => {
        said += text;
      });
      const [code, signal] = await once(child, 'close');
      assert.deepEqual([code, signal], [0, null], said);
      const origin = await openEmbedded(image);
      await origin.write(0, Buffer.from('goes on'));
      await origin.close();
    });
  }
});
