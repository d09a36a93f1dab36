/** What the readers of file systems answer, and what is told of it. */
import type { Extent } from '../../extent.js';
import type { MetadataSource } from './source.js';

/** A part of a source: what a file system's own code sees as the whole. */
export interface SourceRange extends Extent {
  source: MetadataSource;
}

/** Used bytes, counted from the beginning of the range, or why they are not certain ("it …"). */
export type Verdict = { used: Extent[]; note?: string } | { doubt: string };

/** Reads what one kind of file system says of itself. Never throws for what it finds. */
export type Reader = (range: SourceRange) => Promise<Verdict>;

/** How what is found is told. */
export interface TellOptions {
  /** Used blocks are the default, and nobody's wish. */
  unasked?: boolean;
}

/** What a part of a device is, and how much of it is listed. */
export interface UsedPart extends Extent {
  /** `ext4`, `xfs`, `swap`, `gpt partition table`, `LVM2_member`, `unknown`, … */
  what: string;
  /** Listed, of the part. */
  bytes: number;
  /** All of it is listed. */
  full: boolean;
  /** Why all of it is. */
  reason?: string;
  /** What else is worth knowing. */
  note?: string;
}
