/**
 * Block lists as text files, `START LENGTH` a line: how other programs hand
 * theirs in, before a backup starts.
 */
import { open } from 'node:fs/promises';
import { SnapbakError } from '../errors.js';
import { assertExtent, type Extent, formatSize, parseSize, show } from '../extent.js';
import { systemError } from '../system-error.js';

/** More than ten million lines; the text is held in memory while it is parsed. */
const MAX_BYTES = 256 * 2 ** 20;

/** The extents of a text, as they stand there. */
export function parseBlockListText(text: string, path?: string): Extent[] {
  const extents: Extent[] = [];
  let line = 0;
  for (let at = 0; at < text.length; ) {
    let end = text.indexOf('\n', at);
    if (end < 0) end = text.length;
    line++;
    const whole = text.slice(at, end);
    const comment = whole.indexOf('#');
    const content = (comment < 0 ? whole : whole.slice(0, comment)).trim();
    at = end + 1;
    if (content === '') continue;
    try {
      extents.push(parseLine(content));
    } catch (cause) {
      const where = path === undefined ? `block list, line ${line}` : `${path}:${line}`;
      throw new SnapbakError('ERR_SNAPBAK_BLOCK_LIST', `${where}: ${(cause as Error).message}`, {
        cause,
        path,
      });
    }
  }
  return extents;
}

function parseLine(content: string): Extent {
  const plain = /^(\d{1,15})[ \t]+(\d{1,15})$/.exec(content);
  if (plain !== null) return { offset: Number(plain[1]), length: Number(plain[2]) };
  const words = content.split(/\s+/);
  if (words.length !== 2) throw new RangeError(`expected START LENGTH in bytes, got ${show(content)}`);
  const extent = { offset: parseSize(words[0]!), length: parseSize(words[1]!) };
  assertExtent('extent', extent);
  return extent;
}

/** The text of flat extents. */
export function formatBlockListText(flat: Float64Array): string {
  let text = '';
  for (let i = 0; i < flat.length; i += 2) text += `${flat[i]} ${flat[i + 1]}\n`;
  return text;
}

/** A file's text, if it is not absurdly large. */
export async function readBlockListFile(path: string): Promise<string> {
  let file: Awaited<ReturnType<typeof open>>;
  try {
    file = await open(path, 'r');
  } catch (cause) {
    throw systemError('ERR_SNAPBAK_BLOCK_LIST', `cannot open the block list ${path}`, cause, path);
  }
  try {
    // not by its size: a pipe such as /dev/stdin has none
    const pieces: Buffer[] = [];
    let bytes = 0;
    for (;;) {
      const { bytesRead, buffer } = await file.read(Buffer.allocUnsafe(1 << 20), 0, 1 << 20, null);
      if (bytesRead === 0) return Buffer.concat(pieces).toString('utf8');
      bytes += bytesRead;
      if (bytes > MAX_BYTES) {
        const message = `the block list ${path} is larger than ${formatSize(MAX_BYTES)}`;
        throw new SnapbakError('ERR_SNAPBAK_BLOCK_LIST', message, { path });
      }
      pieces.push(buffer.subarray(0, bytesRead));
    }
  } catch (cause) {
    if (SnapbakError.is(cause)) throw cause;
    throw systemError('ERR_SNAPBAK_BLOCK_LIST', `cannot read the block list ${path}`, cause, path);
  } finally {
    await file.close();
  }
}
