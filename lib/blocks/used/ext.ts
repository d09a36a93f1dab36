/**
 * The blocks that an ext2, ext3 or ext4 uses, by libext2fs in the addon. One
 * without a journal that was not unmounted says nothing of itself that could be
 * believed; e2fsck, which only reads it, says whether its bitmaps are right. It
 * finds them so where the file system was frozen.
 */
import { binding, type NativeExtBlocks } from '../../binding.js';
import type { Extent } from '../../extent.js';
import { withPath } from './range-path.js';
import { linesOf, type RunTool, runTool } from './tool.js';
import type { Reader, SourceRange, Verdict } from './verdict.js';

export const readExt: Reader = (range) => usedOfExt(range);

export async function usedOfExt(
  range: SourceRange,
  run: RunTool = runTool,
  find: typeof findBlocks = findBlocks,
): Promise<Verdict> {
  const found = await find(range, false);
  if (found.unclean !== true) return verdictOf(found);
  try {
    await withPath(range, (path) => linesOf(run, 'e2fsck', ['-fn', path]));
  } catch (error) {
    return { doubt: `${found.doubt}; ${(error as Error).message}` };
  }
  return verdictOf(await find(range, true));
}

function findBlocks({ source, offset, length }: SourceRange, checked: boolean): Promise<NativeExtBlocks> {
  return binding().extBlocks(source.native, offset, length, checked);
}

function verdictOf({ extents, doubt, liveJournal }: NativeExtBlocks): Verdict {
  if (doubt !== undefined) return { doubt };
  const used: Extent[] = [];
  for (let i = 0; i < extents.length; i += 2) used.push({ offset: extents[i]!, length: extents[i + 1]! });
  return liveJournal ? { used, note: 'its journal holds changes: their blocks are listed, too' } : { used };
}
