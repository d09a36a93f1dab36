/** docs/model/claim.pml: the claim protocol as it is, and that the model does what it is about. */
import { fails, holds } from './spin.js';

const MODEL = 'claim.pml';
const DRIVERS: [name: string, defines: string[]][] = [
  ['engine', []],
  ['kernel', ['KERNEL']],
];

/** Small enough to be searched whole in seconds, large enough for what each is about. */
const STORIES: [name: string, defines: string[]][] = [
  ['writes to two blocks, one slot', []],
  ['slots that come back in a group', ['SLOTS=2', 'EVENTS=4', 'SWEEP_PAUSED']],
  ['two threads that copy', ['BLOCKS=1', 'COPIERS=2']],
  ['an abort or a death at any time', ['BLOCKS=1', 'ENDS', 'SWEEP_PAUSED']],
  ['a library that stands still', ['BLOCKS=1', 'STALLS', 'SWEEP_PAUSED']],
  ['a FINISH that comes too early', ['BLOCKS=1', 'EARLY_FINISH']],
];

for (const [driver, kind] of DRIVERS) {
  describe(`the claim protocol in the model of the ${driver}`, () => {
    for (const [name, story] of STORIES) {
      it(`keeps its invariants, and holds no write for ever: ${name}`, () =>
        holds(MODEL, [...kind, ...story]));
    }
    it('goes round in no circle for ever, so that every write and every backup comes to its end', () =>
      holds(MODEL, [...kind, 'BLOCKS=1'], 'cycles'));
  });
}

describe('the claim protocol in the model of the engine, with writes over both blocks', () => {
  it('has no two writes that wait for each other', () => holds(MODEL, ['WIDE_WRITES', 'SWEEP_PAUSED']));
});

describe('what the model is about does happen in it', () => {
  const shown: [what: string, number: number, defines?: string[]][] = [
    ['a write is captured', 1],
    ['a slot is missing', 2],
    ['a write is held', 3],
    ['a held write gets a slot', 4],
    ['a held write needs no slot any more', 5],
    ['the sweep loses a block', 6],
    ['a writer loses its claim', 7],
    ['a write meets a capture under way', 8],
    ['a break releases a held write', 9, ['ENDS']],
    ['a backup is complete', 10],
    ['the library dies while writes are held', 11, ['ENDS']],
  ];
  for (const [what, number, defines = []] of shown) {
    it(what, () => fails(MODEL, [...defines, `SHOW=${number}`], `assertion violated (${number}!=${number})`));
  }
});
