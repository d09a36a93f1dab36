/**
 * Where a session takes place: its folder with the origin, loop devices where
 * the plan has some, and with the user driver nbdkit, whose system calls can
 * be spoilt.
 */
import {
  chmodSync,
  closeSync,
  mkdirSync,
  openSync,
  readFileSync,
  truncateSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { join } from 'node:path';
import { findNbdkit } from '../../lib/serve/nbdkit.js';
import { type ImageServer, serve } from '../../lib/serve.js';
import { Cleanup } from '../helpers/cleanup.js';
import { NbdClient } from '../helpers/nbd-client.js';
import { must } from '../helpers/programs.js';
import type { Agent } from './agent-process.js';
import { FaultTable } from './fault-table.js';
import { contentOf } from './judge.js';
import type { Places } from './library.js';
import type { Fault, Place, Plan } from './plan.js';

export class Stage {
  readonly places: Places;
  readonly #preload: string;
  readonly #cleanup = new Cleanup();
  #table: FaultTable | undefined;
  #server: ImageServer | undefined;
  /** Names of rules, by table and number. */
  #armed: { table: FaultTable; number: number; name: string }[] = [];

  private constructor(preload: string, places: Places) {
    this.#preload = preload;
    this.places = places;
  }

  static async make(plan: Plan, folder: string, preload: string): Promise<Stage> {
    mkdirSync(folder);
    const image = join(folder, 'disk.img');
    writeImage(image, plan);
    writeFileSync(join(folder, 'journal-0'), '');
    const stage = new Stage(preload, {
      folder,
      origin: image,
      journal: join(folder, 'journal-0'),
      control: join(folder, 'control.sock'),
      backup: join(folder, 'backup-0'),
    });
    try {
      if (plan.onDevice) stage.places.origin = await stage.#loop(image);
      if (plan.target.kind === 'device') {
        stage.places.targetDevice = await stage.#loop(stage.#file('target.img', plan.size + 65_536));
      }
      if (plan.tierDevice && plan.tiers.length > 0) {
        stage.places.tierDevice = await stage.#loop(stage.#file('tier.img', plan.blockSize * 24));
      }
      if (plan.driver === 'user') await stage.startServer();
    } catch (error) {
      await stage.end();
      throw error;
    }
    return stage;
  }

  /** The process with the user driver. */
  get serverPid(): number {
    return this.#server!.pid;
  }

  /** nbdkit, or a new one in place of one that was killed. */
  async startServer(): Promise<void> {
    const { folder, origin, control } = this.places;
    this.#table ??= new FaultTable(join(folder, 'nbdkit.faults'));
    const wrapper = join(folder, 'nbdkit.sh');
    const variables = Object.entries(this.#table.environment(this.#preload)).map(
      ([key, value]) => `${key}='${value}'`,
    );
    writeFileSync(wrapper, `#!/bin/sh\n${variables.join(' ')} exec ${findNbdkit()} "$@"\n`);
    chmodSync(wrapper, 0o700);
    this.#server = await serve(
      { image: origin, socket: join(folder, 'nbd.sock'), control },
      { nbdkit: () => wrapper },
    );
  }

  async killServer(): Promise<void> {
    process.kill(this.#server!.pid, 'SIGKILL');
    await this.#server!.exited;
  }

  async connect(): Promise<NbdClient> {
    return await NbdClient.connect(join(this.places.folder, 'nbd.sock'));
  }

  /** The origin as it is now. */
  content(): Buffer {
    return readFileSync(this.places.origin);
  }

  /** From now on, in the processes that it is about. */
  arm(fault: Fault, agent: Agent): void {
    const { name, place, afterMs: _, ...rule } = fault;
    const tables = [agent.table];
    if (this.#table !== undefined && (place === 'origin' || place === 'control') && rule.effect !== 'sever') {
      tables.push(this.#table);
    }
    for (const path of this.#pathsOf(place)) {
      for (const table of tables) this.#armed.push({ table, name, number: table.arm({ ...rule, path }) });
    }
  }

  /** Nothing fails any more; gives how often each fault did. */
  disarm(): Record<string, number> {
    const hits: Record<string, number> = {};
    for (const { table, number, name } of this.#armed) hits[name] = (hits[name] ?? 0) + table.hits(number);
    for (const { table } of this.#armed) table.clear();
    this.#armed = [];
    return hits;
  }

  /** nbdkit and the loop devices go; the folder stays. */
  async end(): Promise<void> {
    await this.#server?.stop();
    this.#table?.close();
    this.#table = undefined;
    await this.#cleanup.run();
  }

  #pathsOf(place: Place): string[] {
    const { origin, targetDevice, tierDevice, backup, control } = this.places;
    switch (place) {
      case 'origin':
        return [origin];
      case 'target':
        return [targetDevice ?? join(backup, 'data.img')];
      case 'checksums':
        return [join(backup, 'checksums')];
      case 'manifest':
        return ['manifest.json'];
      case 'tier':
        return ['tier-', ...(tierDevice === undefined ? [] : [tierDevice])];
      case 'control':
        return [control];
    }
  }

  #file(name: string, size: number): string {
    const path = join(this.places.folder, name);
    writeFileSync(path, '');
    truncateSync(path, size);
    return path;
  }

  async #loop(file: string): Promise<string> {
    const device = (await must('losetup', ['--show', '-f', file])).trim();
    this.#cleanup.defer(`detach ${device}`, () => must('losetup', ['-d', device]));
    return device;
  }
}

/** A file with the plan's content, and with holes where it has holes. */
function writeImage(path: string, plan: Plan): void {
  const content = contentOf(plan);
  const fd = openSync(path, 'w');
  const page = 4096;
  for (let at = 0; at < content.length; at += page) {
    const part = content.subarray(at, at + page);
    if (part.some((byte) => byte !== 0)) writeSync(fd, part, 0, part.length, at);
  }
  closeSync(fd);
  truncateSync(path, plan.size);
}
