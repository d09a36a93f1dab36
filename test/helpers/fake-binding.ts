/**
 * The parts of the addon that hold data, in JavaScript: sizes, signatures,
 * preallocation, and a replay that checks, skips and writes as the addon's does.
 */
import { fstatSync, readFileSync, readSync, writeSync } from 'node:fs';
import type {
  NativeBinding,
  NativeReplay,
  NativeReplayOptions,
  NativeReplayResult,
} from '../../lib/binding.js';
import { deviceNumber } from '../../lib/host.js';
import { fakeBinding, nativeError } from './fake-session.js';

const TABLE = Uint32Array.from({ length: 256 }, (_, byte) => {
  let crc = byte;
  for (let bit = 0; bit < 8; bit++) crc = crc & 1 ? (crc >>> 1) ^ 0x82f63b78 : crc >>> 1;
  return crc >>> 0;
});

/** CRC32C, a byte at a time. */
export function crc32c(data: Uint8Array): number {
  let crc = 0xffffffff;
  for (const byte of data) crc = TABLE[(crc ^ byte) & 0xff]! ^ (crc >>> 8);
  return (crc ^ 0xffffffff) >>> 0;
}

/** What a test tells the binding, and what it writes down. */
export interface DataBinding {
  native: NativeBinding;
  /** Signatures by path. */
  signatures: Map<string, { type: string; usage: string }>;
  /** What `replay` was asked to do. */
  replays: NativeReplayOptions[];
  /** What `preallocate` was asked to do. */
  preallocated: number[];
  /** Fails the next calls of a kind. */
  failing: Map<'preallocate' | 'replay' | 'deviceSize', Error>;
  /** A replay waits for this before each block. */
  gate: Promise<void>;
}

export function dataBinding(): DataBinding {
  const data: DataBinding = {
    signatures: new Map(),
    replays: [],
    preallocated: [],
    failing: new Map(),
    gate: Promise.resolve(),
    native: fakeBinding({
      crc32c,
      deviceSize(fd) {
        throwIfFailing(data, 'deviceSize');
        return sizeOf(fd);
      },
      removeLeftPinned() {
        throw nativeError(17, 'remove'); // EEXIST: what tests put in the way is theirs
      },
      lockFile() {},
      probeSignature: (path) => data.signatures.get(path) ?? null,
      async preallocate(fd, bytes, from = 0) {
        throwIfFailing(data, 'preallocate');
        data.preallocated.push(bytes);
        for (let at = from; at < from + bytes; at += 65_536)
          writeSync(fd, Buffer.alloc(Math.min(65_536, from + bytes - at)), 0, undefined, at);
      },
      replay(options) {
        data.replays.push(options);
        return new FakeReplay(options, data);
      },
    }),
  };
  return data;
}

function throwIfFailing(data: DataBinding, what: 'preallocate' | 'replay' | 'deviceSize'): void {
  const error = data.failing.get(what);
  if (error !== undefined) throw error;
}

function sizeOf(fd: number): number {
  const stats = fstatSync(fd);
  if (!stats.isBlockDevice()) return stats.size;
  return 512 * Number(readFileSync(`/sys/dev/block/${deviceNumber(stats.rdev)}/size`, 'utf8'));
}

class FakeReplay implements NativeReplay {
  readonly finished: Promise<NativeReplayResult>;
  #cancelled = false;
  readonly #bad: number[] = [];
  #doneBytes = 0;
  #zeroBytes = 0;

  constructor(
    private readonly options: NativeReplayOptions,
    private readonly data: DataBinding,
  ) {
    this.finished = this.#run();
  }

  stats() {
    return { doneBytes: this.#doneBytes, zeroBytes: this.#zeroBytes, badBlocks: this.#bad.length };
  }

  cancel(): void {
    this.#cancelled = true;
  }

  async #run(): Promise<NativeReplayResult> {
    const { extents, blockSize, imageSize } = this.options;
    for (let i = 0; i < extents.length; i += 2) {
      for (let at = extents[i]!; at < extents[i]! + extents[i + 1]!; at += blockSize) {
        await this.data.gate;
        throwIfFailing(this.data, 'replay');
        if (this.#cancelled) throw nativeError(125, 'replay');
        this.#block(at, Math.min(blockSize, imageSize - at));
      }
    }
    return { ...this.stats(), bad: this.#bad };
  }

  #block(at: number, length: number): void {
    const { imageFd, checksumsFd, target, blockSize, check, skip } = this.options;
    const block = at / blockSize;
    if (skip.includes(block)) return;
    const content = Buffer.alloc(length);
    if (readSync(imageFd, content, 0, length, at) !== length) throw nativeError(5, 'image');
    if (check) {
      const sum = Buffer.alloc(4);
      if (readSync(checksumsFd, sum, 0, 4, 4 * block) !== 4) throw nativeError(5, 'checksums');
      if (sum.readUInt32LE() !== crc32c(content)) {
        this.#bad.push(block);
        return;
      }
    }
    this.#doneBytes += length;
    const zero = content.every((byte) => byte === 0);
    if (zero) this.#zeroBytes += length;
    if (target !== undefined && !(zero && target.fresh)) writeSync(target.fd, content, 0, length, at);
  }
}
