/**
 * A part of a source as a path of its own, for tools that know no offset: the
 * source's own path where it is the whole, else a read-only loop device. It is
 * told to go away as soon as nobody has it open, so that not even a killed
 * process leaves one.
 */
import { open } from 'node:fs/promises';
import { linesOf, type RunTool, runTool } from './tool.js';
import type { SourceRange } from './verdict.js';

export async function withPath<T>(
  { source, offset, length }: SourceRange,
  use: (path: string) => Promise<T>,
  run: RunTool = runTool,
): Promise<T> {
  const path = await source.path();
  if (offset === 0 && length === source.size) return await use(path);
  const args = ['--read-only', '--find', '--show', '--offset', `${offset}`, '--sizelimit', `${length}`];
  const [device = ''] = await linesOf(run, 'losetup', [...args, path]);
  if (!/^\/dev\/loop\d+$/.test(device)) throw new Error('losetup names no device');
  const detach = () => linesOf(run, 'losetup', ['--detach', device]);
  const held = await open(device, 'r').catch(async (error) => {
    await detach();
    throw error;
  });
  try {
    await detach();
    return await use(device);
  } finally {
    await held.close();
  }
}
