/**
 * The table by which `faults.cc` spoils the system calls of a process. The
 * library is built once; each process under test has a table of its own.
 */
import { closeSync, ftruncateSync, openSync, readSync, writeSync } from 'node:fs';
import { constants } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { must } from '../helpers/programs.js';

const SOURCE = fileURLToPath(new URL('faults.cc', import.meta.url));
const RULES = 16;
const RULE_BYTES = 128;
const PATH_AT = 48;
const OPS = { read: 1, write: 2, sync: 4, allocate: 8, send: 16, receive: 32 } as const;
const EFFECTS = { error: 1, short: 2, delay: 3, sever: 4 } as const;

/** What befalls system calls, and which. */
export interface Rule {
  ops: (keyof typeof OPS)[];
  effect: keyof typeof EFFECTS;
  /** Of the file or the socket; without a slash at its beginning a part of it. */
  path: string;
  errno?: 'EIO' | 'ENOSPC' | 'EINTR' | 'ENOMEM';
  /** A short transfer ends at a multiple of so many bytes. */
  grain?: number;
  delayUs?: number;
  /** 0 to 1. */
  chance: number;
  /** How often it may act; for ever by default. */
  times?: number;
  /** Bytes of the file. */
  from?: number;
  to?: number;
}

/** Builds the library in `folder`. */
export async function buildFaults(folder: string): Promise<string> {
  const library = join(folder, 'faults.so');
  const flags = ['-std=c++17', '-O2', '-fPIC', '-shared', '-fvisibility=hidden'];
  await must(process.env.CXX ?? 'c++', [...flags, '-o', library, SOURCE, '-ldl']);
  return library;
}

export class FaultTable {
  readonly path: string;
  readonly #fd: number;
  #rules = 0;
  #closed = false;

  constructor(path: string) {
    this.path = path;
    this.#fd = openSync(path, 'w+');
    ftruncateSync(this.#fd, RULES * RULE_BYTES);
  }

  /** What a process needs to be spoilt by this table. */
  environment(library: string): Record<string, string> {
    return { LD_PRELOAD: library, SNAPBAK_FAULTS: this.path };
  }

  /** From now on; gives the rule's number. */
  arm(rule: Rule): number {
    if (this.#rules === RULES) throw new RangeError(`more than ${RULES} rules`);
    if (rule.path.length >= RULE_BYTES - PATH_AT) throw new RangeError(`path: too long: ${rule.path}`);
    const number = this.#rules++;
    const record = Buffer.alloc(RULE_BYTES);
    const errno = rule.errno === undefined ? undefined : constants.errno[rule.errno];
    record.writeUInt32LE(1, 0);
    record.writeUInt32LE(
      rule.ops.reduce((mask, op) => mask | OPS[op], 0),
      4,
    );
    record.writeUInt32LE(EFFECTS[rule.effect], 8);
    record.writeInt32LE(errno ?? rule.grain ?? rule.delayUs ?? 0, 12);
    record.writeUInt32LE(Math.round(rule.chance * 65_536), 16);
    record.writeInt32LE(rule.times ?? -1, 20);
    record.writeBigUInt64LE(BigInt(rule.from ?? 0), 24);
    record.writeBigUInt64LE(rule.to === undefined ? 2n ** 63n : BigInt(rule.to), 32);
    record.write(rule.path, PATH_AT);
    // what it is about first, that it counts last
    writeSync(this.#fd, record, 4, RULE_BYTES - 4, number * RULE_BYTES + 4);
    writeSync(this.#fd, record, 0, 4, number * RULE_BYTES);
    return number;
  }

  /** How often a rule acted so far. */
  hits(number: number): number {
    const field = Buffer.alloc(8);
    readSync(this.#fd, field, 0, 8, number * RULE_BYTES + 40);
    return Number(field.readBigUInt64LE());
  }

  /** Nothing befalls any more; the numbers begin again. */
  clear(): void {
    for (let number = 0; number < this.#rules; number++) {
      writeSync(this.#fd, Buffer.alloc(4), 0, 4, number * RULE_BYTES);
    }
    this.#rules = 0;
  }

  /** Idempotent. */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.clear();
    closeSync(this.#fd);
  }
}
