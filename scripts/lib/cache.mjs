// Where the scripts keep what is large and takes long to make: kernels, their
// headers, built modules. Outside the repository, shared by all its clones.
import { existsSync, mkdirSync, mkdtempSync, readdirSync, renameSync, rmSync, symlinkSync } from 'node:fs';
import { homedir } from 'node:os';
import { basename, dirname, join } from 'node:path';

/** `${XDG_CACHE_HOME:-~/.cache}/snapbak` */
export const CACHE = join(process.env.XDG_CACHE_HOME || join(homedir(), '.cache'), 'snapbak');

/**
 * An empty folder below `parent` for the time of `work`. Those that processes
 * left behind which were killed are removed on the way.
 */
export async function inScratch(parent, name, work) {
  mkdirSync(parent, { recursive: true });
  for (const entry of readdirSync(parent)) {
    const pid = /^\.scratch-(\d+)-/.exec(entry)?.[1];
    if (pid !== undefined && !existsSync(`/proc/${pid}`)) rmSync(join(parent, entry), { recursive: true });
  }
  const folder = mkdtempSync(join(parent, `.scratch-${process.pid}-${name}-`));
  try {
    return await work(folder);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

/**
 * Puts the finished folder `fresh` into place as `final`; its readers see all of
 * it or nothing. Another process that was first wins: what both made is the same.
 */
export function settle(fresh, final) {
  if (existsSync(final)) rmSync(fresh, { recursive: true, force: true });
  else renameSync(fresh, final);
}

/** Makes `link` point at the folder `target` beside it, in one step. */
export function pointAt(link, target) {
  const fresh = `${link}.new-${process.pid}`;
  rmSync(fresh, { force: true });
  symlinkSync(basename(target), fresh);
  renameSync(fresh, link);
}

/** Removes the folders `PREFIX_*` beside `link`, but for those to keep. */
export function forget(link, keep) {
  const kept = new Set(keep.map((path) => basename(path)));
  for (const entry of readdirSync(dirname(link))) {
    if (!entry.startsWith(`${basename(link)}_`) || kept.has(entry)) continue;
    rmSync(join(dirname(link), entry), { recursive: true, force: true });
  }
}
