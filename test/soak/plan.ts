/** What each session of a soak does: drawn from the seed, so that a run can be had again. */
import { seeded } from '../helpers/images.js';

export type DriverKind = 'embedded' | 'user';

export const CONTAINERS = ['memory', 'full', 'file', 'device', 'tiered'] as const;
export type ContainerKind = (typeof CONTAINERS)[number];

export interface Plan {
  number: number;
  /** `full`: slots for sixteen blocks and a slow target, so that writes are held. */
  container: ContainerKind;
  blockSize: number;
  /** Of the sweep, bytes a second. */
  rate: number;
  /** Of a target written in JavaScript, bytes a second; absent: a directory. */
  targetRate?: number;
  /** What ends it; `kill`: the process that it runs in. */
  end: 'finish' | 'abort' | 'kill';
  /** When, in milliseconds after its start; a session that is over by then was finished. */
  endAfter: number;
}

/** Of so many sessions in a row one is aborted, and one killed. */
const CYCLE = 10;

/** @param pace how much faster than a disk's worth in a third of a second to a second */
export function* plans(seed: number, size: number, pace: number): Generator<Plan, never> {
  const draw = seeded(seed);
  for (let number = 0; ; number++) {
    const container = CONTAINERS[number % CONTAINERS.length]!;
    const phase = number % CYCLE;
    yield {
      number,
      container,
      blockSize: [4096, 16_384, 65_536][draw(3)]!,
      rate: pace * size * (1 + draw(3)),
      ...(container === 'full' || draw(4) === 0 ? { targetRate: pace * size * (1 + draw(2)) } : {}),
      end: phase === 3 ? 'abort' : phase === 6 ? 'kill' : 'finish',
      endAfter: 20 + draw(Math.ceil(400 / pace)),
    };
  }
}
