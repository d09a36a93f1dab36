/**
 * A client of an NBD export, as much of one as an application with random
 * requests needs: fixed newstyle handshake, simple replies, any number of
 * requests under way. After the NBD protocol's `doc/proto.md`.
 */
import { createConnection, type Socket } from 'node:net';

const COMMAND = { read: 0, write: 1, disconnect: 2, flush: 3, trim: 4, zero: 6 } as const;
const FLAG_FUA = 1;
const FLAG_NO_HOLE = 2;
const OPT_GO = 7;
const REP_ACK = 1;
const REP_INFO = 3;
const REQUEST_MAGIC = 0x25609513;
const REPLY_MAGIC = 0x67446698;
const OPTION_REPLY_MAGIC = 0x3e889045565a9n;

interface Waiting {
  /** Bytes of data that follow a good reply. */
  length: number;
  resolve(data: Buffer): void;
  reject(error: Error): void;
}

export class NbdClient {
  /** Bytes of the export. */
  size = 0;
  readonly #socket: Socket;
  readonly #waiting = new Map<bigint, Waiting>();
  #cookie = 0n;
  #kept = Buffer.alloc(0);
  #need: { length: number; take(data: Buffer): void } | undefined;
  #gone: Error | undefined;
  readonly #closed: Promise<void>;

  private constructor(socket: Socket) {
    this.#socket = socket;
    socket.on('data', (data) => {
      this.#kept = this.#kept.length === 0 ? data : Buffer.concat([this.#kept, data]);
      this.#advance();
    });
    socket.on('error', (error) => this.#end(error));
    this.#closed = new Promise((resolve) => {
      socket.on('close', () => {
        this.#end(new Error('the NBD server closed the connection'));
        resolve();
      });
    });
  }

  /** Connects to the default export behind a Unix socket. */
  static async connect(path: string): Promise<NbdClient> {
    const socket = createConnection(path);
    await new Promise<void>((resolve, reject) => {
      socket.once('connect', resolve).once('error', reject);
    });
    const client = new NbdClient(socket);
    await client.#negotiate();
    client.#serve();
    return client;
  }

  /** False once the connection is gone. */
  get connected(): boolean {
    return this.#gone === undefined;
  }

  async read(offset: number, length: number): Promise<Buffer> {
    return await this.#request(COMMAND.read, 0, offset, length);
  }

  async write(offset: number, data: Uint8Array, { fua = false } = {}): Promise<void> {
    await this.#request(COMMAND.write, fua ? FLAG_FUA : 0, offset, data.length, data);
  }

  async writeZeroes(offset: number, length: number, { fua = false, mayTrim = true } = {}): Promise<void> {
    const flags = (fua ? FLAG_FUA : 0) | (mayTrim ? 0 : FLAG_NO_HOLE);
    await this.#request(COMMAND.zero, flags, offset, length);
  }

  async discard(offset: number, length: number): Promise<void> {
    await this.#request(COMMAND.trim, 0, offset, length);
  }

  async flush(): Promise<void> {
    await this.#request(COMMAND.flush, 0, 0, 0);
  }

  /** Says goodbye, and waits until the connection is closed. */
  async close(): Promise<void> {
    if (this.#gone === undefined) this.#send(COMMAND.disconnect, 0, 0, 0);
    this.#socket.end();
    await this.#closed;
  }

  #end(error: Error): void {
    this.#gone ??= error;
    for (const { reject } of this.#waiting.values()) reject(this.#gone);
    this.#waiting.clear();
    this.#need?.take(Buffer.alloc(0));
  }

  #advance(): void {
    while (this.#need !== undefined && this.#kept.length >= this.#need.length) {
      const { length, take } = this.#need;
      const data = this.#kept.subarray(0, length);
      this.#kept = this.#kept.subarray(length);
      this.#need = undefined;
      take(data);
    }
  }

  async #take(length: number): Promise<Buffer> {
    const data = await new Promise<Buffer>((take) => {
      this.#need = { length, take };
      this.#advance();
    });
    if (data.length < length) throw this.#gone ?? new Error('the NBD server said too little');
    return data;
  }

  async #negotiate(): Promise<void> {
    const greeting = await this.#take(18);
    if (greeting.toString('latin1', 0, 16) !== 'NBDMAGICIHAVEOPT') throw new Error('no NBD server');
    const go = Buffer.alloc(4 + 16 + 6);
    go.writeUInt32BE(3, 0); // fixed newstyle, no zeroes
    go.write('IHAVEOPT', 4);
    go.writeUInt32BE(OPT_GO, 12);
    go.writeUInt32BE(6, 16); // the default export, no information asked for
    this.#socket.write(go);
    for (;;) {
      const head = await this.#take(20);
      if (head.readBigUInt64BE(0) !== OPTION_REPLY_MAGIC) throw new Error('no reply to an NBD option');
      const type = head.readUInt32BE(12);
      const data = await this.#take(head.readUInt32BE(16));
      if (type === REP_ACK) return;
      if (type !== REP_INFO) throw new Error(`the NBD server refuses: ${type}`);
      if (data.readUInt16BE(0) === 0) this.size = Number(data.readBigUInt64BE(2));
    }
  }

  #serve(): void {
    this.#need = {
      length: 16,
      take: (head) => {
        if (head.length < 16) return;
        const waiting = this.#waiting.get(head.readBigUInt64BE(8));
        if (head.readUInt32BE(0) !== REPLY_MAGIC || waiting === undefined) {
          this.#socket.destroy(new Error('the NBD server sent rubbish'));
          return;
        }
        const errno = head.readUInt32BE(4);
        const done = (data: Buffer) => {
          this.#waiting.delete(head.readBigUInt64BE(8));
          if (errno === 0) waiting.resolve(data);
          else
            waiting.reject(Object.assign(new Error(`the NBD server says errno ${errno}`), { errno: -errno }));
          this.#serve();
        };
        if (errno !== 0 || waiting.length === 0) return done(Buffer.alloc(0));
        this.#need = {
          length: waiting.length,
          take: (data) => {
            if (data.length === waiting.length) done(Buffer.from(data));
          },
        };
      },
    };
    this.#advance();
  }

  async #request(
    command: number,
    flags: number,
    offset: number,
    length: number,
    data?: Uint8Array,
  ): Promise<Buffer> {
    if (this.#gone !== undefined) throw this.#gone;
    return await new Promise((resolve, reject) => {
      const cookie = this.#send(command, flags, offset, length, data);
      this.#waiting.set(cookie, { length: command === COMMAND.read ? length : 0, resolve, reject });
    });
  }

  #send(command: number, flags: number, offset: number, length: number, data?: Uint8Array): bigint {
    const cookie = this.#cookie++;
    const head = Buffer.alloc(28);
    head.writeUInt32BE(REQUEST_MAGIC, 0);
    head.writeUInt16BE(flags, 4);
    head.writeUInt16BE(command, 6);
    head.writeBigUInt64BE(cookie, 8);
    head.writeBigUInt64BE(BigInt(offset), 16);
    head.writeUInt32BE(length, 24);
    this.#socket.write(data === undefined ? head : Buffer.concat([head, data]));
    return cookie;
  }
}
