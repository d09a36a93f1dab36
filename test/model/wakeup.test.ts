/** docs/model/wakeup.pml: no wake-up is lost, on processors with store buffers. */
import { fails, holds, violates, WAITS_FOR_EVER } from './spin.js';

const MODEL = 'wakeup.pml';

describe('the wake-ups in the model', () => {
  it('never leave the library asleep over an event or the end (engine)', () =>
    holds(MODEL, ['LIBRARY_SLEEPS']));
  it('never leave the library asleep over an event or the end (kernel)', () =>
    holds(MODEL, ['LIBRARY_SLEEPS', 'KERNEL']));
  it('never leave a write held whose block is safe', () => holds(MODEL, ['WRITE_HOLDS']));
  it('let START arm only when no write is inside, and every write go on', () => holds(MODEL, ['GATE']));

  const broken: [rules: string[], why: string][] = [
    [['LIBRARY_SLEEPS', 'NO_ASLEEP'], WAITS_FOR_EVER],
    [['LIBRARY_SLEEPS', 'NO_FENCE_BEFORE_SLEEP'], WAITS_FOR_EVER],
    [['LIBRARY_SLEEPS', 'NO_LOOK_BEFORE_SLEEP'], WAITS_FOR_EVER],
    [['LIBRARY_SLEEPS', 'NO_FENCE_BEFORE_WAKE'], WAITS_FOR_EVER],
    [['LIBRARY_SLEEPS', 'KERNEL', 'NO_ASLEEP_AGAIN'], WAITS_FOR_EVER],
    [['WRITE_HOLDS', 'LOOK_BEFORE_ANNOUNCE'], WAITS_FOR_EVER],
    [['WRITE_HOLDS', 'NO_FENCE_BEFORE_LOOK'], WAITS_FOR_EVER],
    [['WRITE_HOLDS', 'NO_LOOK_BEFORE_WAIT'], WAITS_FOR_EVER],
    [['WRITE_HOLDS', 'NO_FENCE_BEFORE_KICK'], WAITS_FOR_EVER],
    [['WRITE_HOLDS', 'KICK_WITHOUT_LOCK'], WAITS_FOR_EVER],
    [['GATE', 'LOOK_BEFORE_COUNT'], violates('nobody_is_inside_when_armed')],
    [['GATE', 'NO_FENCE_BEFORE_COUNTING'], violates('nobody_is_inside_when_armed')],
    [['GATE', 'WAKE_WITHOUT_LOCK'], WAITS_FOR_EVER],
    [['GATE', 'NO_WAKE_AFTER_LEAVE'], WAITS_FOR_EVER],
  ];
  for (const [rules, why] of broken) {
    it(`fail with ${rules.join(' ')}: ${why}`, () => fails(MODEL, rules, why));
  }
});
