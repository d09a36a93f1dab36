/** docs/model/claim.pml with one rule broken at a time: the search finds each, for the right reason. */
import { fails, violates, WAITS_FOR_EVER } from './spin.js';

const MODEL = 'claim.pml';
const WRONG_IMAGE = violates('inv1_image_is_the_start_instant');

const BROKEN: [rule: string, why: string, setting: string[]][] = [
  ['CLEAR_BEFORE_READ', WRONG_IMAGE, ['BLOCKS=1']],
  ['SWEEP_KEEPS_LOST_BYTES', WRONG_IMAGE, ['BLOCKS=1', 'COPIERS=2']],
  ['RELEASE_BEFORE_CAPTURE', WRONG_IMAGE, ['BLOCKS=1']],
  ['CLEAR_BEFORE_TABLE', WRONG_IMAGE, ['BLOCKS=1']],
  ['PASS_IN_FLIGHT', WRONG_IMAGE, ['BLOCKS=1']],
  ['ARM_WITHOUT_DRAIN', WRONG_IMAGE, ['BLOCKS=1']],
  ['SLOT_BACK_BEFORE_DRAINED', WRONG_IMAGE, []],
  ['CLAIM_IN_TWO_STEPS', violates('one_owner_a_block'), ['BLOCKS=1']],
  ['FINISH_DURING_CAPTURE', violates('finish_after_every_capture'), ['BLOCKS=1', 'EARLY_FINISH']],
  ['FINISH_DURING_CAPTURE', violates('finish_after_every_capture'), ['BLOCKS=1', 'EARLY_FINISH', 'KERNEL']],
  ['DROP_ON_BREAK', violates('inv2_acknowledged_writes_are_on_the_origin'), ['BLOCKS=1', 'ENDS']],
  ['FINISH_IGNORES_BREAK', violates('inv3_no_good_manifest_of_a_broken_session'), ['BLOCKS=1', 'ENDS']],
  ['LOOK_BEFORE_ANNOUNCE', WAITS_FOR_EVER, []],
  ['NO_LOOK_BEFORE_WAIT', WAITS_FOR_EVER, []],
  ['NO_KICK_AFTER_CLEAR', WAITS_FOR_EVER, []],
  ['NO_RELEASE_ON_BREAK', WAITS_FOR_EVER, ['BLOCKS=1', 'ENDS', 'SWEEP_PAUSED']],
  ['NO_RELEASE_ON_DEATH', WAITS_FOR_EVER, ['BLOCKS=1', 'ENDS', 'SWEEP_PAUSED']],
  ['NO_RELEASE_ON_FINISH', WAITS_FOR_EVER, ['BLOCKS=1', 'ENDS', 'SWEEP_PAUSED', 'KERNEL']],
  ['NO_WATCHDOG', WAITS_FOR_EVER, ['BLOCKS=1', 'STALLS', 'SWEEP_PAUSED']],
];

describe('the claim protocol in the model, with one rule broken', () => {
  for (const [rule, why, setting] of BROKEN) {
    const driver = setting.includes('KERNEL') ? 'kernel' : 'engine';
    it(`fails with ${rule} (${driver}): ${why}`, () => fails(MODEL, [rule, ...setting], why));
  }
});
