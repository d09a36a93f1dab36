/**
 * A part of a source as a path of its own, for tools that know no offset: the
 * source's own path where it is the whole, else a read-only loop device. It is
 * told to go away as soon as nobody has it open, so that not even a killed
 * process leaves one.
 */
import { open, stat } from 'node:fs/promises';
import { deviceNumber } from '../../host.js';
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
    // whoever detaches all loop devices, and makes a new one, may have been faster
    const columns = 'BACK-MAJ:MIN,BACK-INO,OFFSET,SIZELIMIT';
    const shown = await linesOf(run, 'losetup', ['--list', '--noheadings', '--output', columns, device]);
    const { dev, ino } = await stat(path, { bigint: true });
    if (shown[0]?.trim().replaceAll(/\s+/g, ' ') !== `${deviceNumber(dev)} ${ino} ${offset} ${length}`) {
      throw new Error(`${device} became another one before it was opened`);
    }
    await detach();
    return await use(device);
  } finally {
    await held.close();
  }
}
