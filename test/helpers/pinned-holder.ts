/**
 * A program that holds a pinned container and never ends by itself, to be
 * killed: says `open` once it has it.
 *   pinned-holder.ts PATH ORIGIN_INFO_AS_JSON
 */
import { fileContainer } from '../../lib/container/file-container.js';

const [path, info] = process.argv.slice(2) as [string, string];
await fileContainer(path, 2 ** 21).open({ origin: JSON.parse(info), blockSize: 65_536 });
console.log('open');
setInterval(() => {}, 1_000_000);
