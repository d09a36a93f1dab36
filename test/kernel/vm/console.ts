/**
 * Reads what a guest's kernel says and tells what of it is a complaint. Every
 * run passes through here, so a test need not look at the kernel's log itself.
 */

/** Lines by which kernels from 5.10 on announce that something is wrong with them. */
const REPORTS: RegExp[] = [
  /Kernel panic - /,
  /\bOops\b.*#\d+/,
  /\bBUG(: | at )/,
  /\bWARNING: /,
  /general protection fault/,
  /unable to handle/,
  /invalid opcode/,
  /INFO: task .* blocked (for more than|in I\/O wait)/,
  /INFO: rcu\w* .*(stall|detected)/,
  /INFO: trying to register non-static key/,
  /INFO: lockdep is turned off/,
  /soft lockup/,
  /possible .*(locking|deadlock|inversion)/,
  /suspicious RCU usage/,
  /DEBUG_LOCKS_WARN_ON/,
  /KASAN:/,
  /UBSAN:/,
  /ODEBUG:/,
  /refcount_t:/,
  /list_(add|del).*corruption/,
  /scheduling while atomic/,
  /sleeping function called from invalid context/,
  /kmemleak: (unreferenced object|\d+ new suspected)/,
  /workqueue lockup/,
  /stack-protector/,
];

/** A task that hangs never lets the command end. */
const HUNG = /INFO: task .* blocked (for more than|in I\/O wait)|soft lockup|workqueue lockup/;

/** QEMU 7.2 runs an int3 that the guest's kernel put into its code for a moment, and took out again. */
const STALE_CODE = /Oops: int3|int3: 0000/;

export class GuestConsole {
  #text = '';
  #rest = '';
  #first: string | undefined;
  #hung = false;
  #stale = false;

  /** `allowed` are reports that a test provokes on purpose; `onHung` is called once. */
  constructor(
    private readonly allowed: RegExp[] = [],
    private readonly onHung: () => void = () => {},
  ) {}

  push(chunk: string): void {
    // a serial line ends its lines as a typewriter does
    const text = chunk.replaceAll('\r', '');
    this.#text += text;
    const lines = (this.#rest + text).split('\n');
    this.#rest = lines.pop() ?? '';
    for (const line of lines) this.#read(line);
  }

  #read(line: string): void {
    if (STALE_CODE.test(line)) this.#stale = true;
    if (this.allowed.some((pattern) => pattern.test(line))) return;
    if (!REPORTS.some((pattern) => pattern.test(line))) return;
    this.#first ??= line.trim();
    if (HUNG.test(line) && !this.#hung) {
      this.#hung = true;
      this.onHung();
    }
  }

  get text(): string {
    return this.#text;
  }

  /** The first complaint. */
  get report(): string | undefined {
    return this.#first;
  }

  /** A task hangs. */
  get hung(): boolean {
    return this.#hung;
  }

  /** The complaint is the emulator's fault. */
  get stale(): boolean {
    return this.#stale;
  }

  /** The text from the first complaint on, at most `lines` lines; without a complaint, the last lines. */
  excerpt(lines = 100): string {
    const all = this.#text.split('\n');
    const first = this.#first;
    const at = first === undefined ? -1 : all.findIndex((line) => line.includes(first));
    return at >= 0 ? all.slice(Math.max(0, at - 3), at + lines).join('\n') : all.slice(-lines).join('\n');
  }
}
