// A program that makes, grows, cuts, renames and removes files for ever, or
// OPERATIONS times; some of what it writes it syncs. It says a dot for every twenty
// changes.
//   node churn.mjs FOLDER SEED [OPERATIONS]
import {
  closeSync,
  fsyncSync,
  ftruncateSync,
  mkdirSync,
  openSync,
  readdirSync,
  renameSync,
  rmSync,
  writeSync,
} from 'node:fs';
import { join } from 'node:path';

const [folder, seed, operations = 'Infinity'] = process.argv.slice(2);
let state = (Number(seed) * 2654435761 + 1) >>> 0;

/** An integer below `limit`; xorshift32. */
function draw(limit) {
  state ^= state << 13;
  state ^= state >>> 17;
  state ^= state << 5;
  state >>>= 0;
  return state % limit;
}

const block = Buffer.alloc(256 << 10);
for (let i = 0; i < block.length; i += 4) block.writeUInt32LE((draw(0xffffffff) ^ i) >>> 0, i);

const folders = Array.from({ length: 6 }, (_, i) => join(folder, `d${i}`));
for (const path of folders) mkdirSync(path, { recursive: true });

function someFile() {
  const names = readdirSync(folders[draw(folders.length)], { withFileTypes: true }).filter((e) => e.isFile());
  if (names.length === 0) return undefined;
  const entry = names[draw(names.length)];
  return join(entry.parentPath ?? entry.path, entry.name);
}

function write(path, sync) {
  const fd = openSync(path, 'a');
  try {
    const pieces = 1 + draw(4);
    for (let i = 0; i < pieces; i++) {
      const at = draw(block.length >> 1);
      // a sparse file now and then
      if (draw(12) === 0) writeSync(fd, block, 0, 100, draw(4 << 20));
      else writeSync(fd, block, at, 1 + draw(draw(3) === 0 ? block.length >> 1 : 9000));
    }
    if (sync) fsyncSync(fd);
  } finally {
    closeSync(fd);
  }
}

function step(i) {
  const kind = draw(20);
  const known = someFile();
  if (known === undefined || kind < 8)
    write(join(folders[draw(folders.length)], `f${i}-${draw(1000)}`), draw(4) === 0);
  else if (kind < 11) write(known, draw(3) === 0);
  else if (kind < 16) rmSync(known);
  else if (kind < 18) renameSync(known, join(folders[draw(folders.length)], `r${i}`));
  else {
    const fd = openSync(known, 'r+');
    ftruncateSync(fd, draw(20000));
    closeSync(fd);
  }
}

for (let i = 0; i < Number(operations); i++) {
  try {
    step(i);
    // not by process.stdout, which would keep for later what a reader is slow to take; there is no later here
    if (i % 20 === 19) writeSync(1, '.');
  } catch (error) {
    if (error.code !== 'ENOSPC' && error.code !== 'EFBIG') throw error;
    for (let n = 0; n < 20; n++) {
      const path = someFile();
      if (path !== undefined) rmSync(path);
    }
  }
}
