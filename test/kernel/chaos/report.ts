/** What the sessions of the chaos tell (guest/chaos.c, guest/stories/chaos.sh), put together. */

/** A session's line, as far as it is summed up. */
interface SessionLine {
  number: number;
  outcome: string;
  reason: number;
  struck: string[];
  captured: number;
  held: number;
  heldMaxMs: number;
  invalid: number;
  requests: number;
  failedRequests: number;
  slowestMs: number;
  boundMs: number;
}

interface CliLine {
  cli: number;
  fault: string;
  status: number;
}

/** Names of `enum snapbak_reason`. */
const REASONS = [
  'before it was armed',
  'aborted',
  'closed',
  'hold timeout',
  'protocol',
  'origin gone',
  'stalled',
];

export class ChaosReport {
  readonly #sessions: SessionLine[] = [];
  readonly #cli: CliLine[] = [];
  readonly #mibLeft: number[] = [];

  /** The lines of one machine. */
  add(text: string): void {
    for (const line of text.split('\n').filter((line) => line.startsWith('{'))) {
      const told = JSON.parse(line) as Record<string, unknown>;
      if ('struck' in told) this.#sessions.push(told as unknown as SessionLine);
      else if ('cli' in told) this.#cli.push(told as unknown as CliLine);
      else if ('mibLeft' in told) this.#mibLeft.push(told.mibLeft as number);
    }
  }

  get sessions(): number {
    return this.#sessions.length + this.#cli.length;
  }

  /** For people: a line each. */
  lines(): string[] {
    const sessions = this.#sessions;
    // counters of a session whose memory was spoilt may say anything
    const sound = sessions.filter(({ struck }) => !struck.includes('rubbish'));
    const sum = (of: (session: SessionLine) => number) =>
      sound.reduce((total, session) => total + of(session), 0);
    const most = (of: (session: SessionLine) => number) => Math.max(0, ...sound.map(of));
    const faults = sessions.flatMap(({ struck }) => struck);
    const broken = sessions.filter(({ outcome }) => outcome === 'broken');
    return [
      `sessions      ${sessions.length}, and ${this.#cli.length} of the program`,
      `outcomes      ${tally(sessions.map(({ outcome }) => outcome))}`,
      `broke for     ${tally(broken.map(({ reason }) => REASONS[reason] ?? String(reason)))}`,
      `faults        ${faults.length}: ${tally(faults)}`,
      `no fault      ${sessions.filter(({ struck }) => struck.length === 0).length}`,
      `the program   ${tally(this.#cli.map(({ fault, status }) => `${fault} -> ${status}`))}`,
      `requests      ${sum(({ requests }) => requests)}, ${sum(({ failedRequests }) => failedRequests)} failed with their device`,
      `captured      ${sum(({ captured }) => captured)} blocks; ${sum(({ invalid }) => invalid)} could not be read`,
      `held          ${sum(({ held }) => held)} times, ${most(({ heldMaxMs }) => heldMaxMs)} ms at the longest`,
      `slowest       ${most(({ slowestMs }) => slowestMs)} ms for a request; at most ${most(nearness).toFixed(2)} of its session's bound`,
      `memory        ${this.#mibLeft.join(', ')} MiB less free after the sessions of a machine than before`,
    ];
  }
}

const nearness = ({ slowestMs, boundMs }: SessionLine) => slowestMs / boundMs;

/** `kill 3, stop 2`: the most frequent first. */
function tally(words: string[]): string {
  const counts = new Map<string, number>();
  for (const word of words) counts.set(word, (counts.get(word) ?? 0) + 1);
  const sorted = [...counts].sort(([, a], [, b]) => b - a);
  return sorted.length === 0 ? 'none' : sorted.map(([word, count]) => `${word} ${count}`).join(', ');
}
