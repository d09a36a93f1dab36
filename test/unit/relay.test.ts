import assert from 'node:assert/strict';
import { Relay } from '../../lib/relay.js';
import { collectGarbage } from '../helpers/garbage.js';

describe('a relay', () => {
  it('passes all on, in order, until it is cut', () => {
    const got: number[] = [];
    const relay = new Relay<number>();
    const { call } = relay;
    call(1);
    assert.equal(got.length, 0);
    relay.pass((value) => got.push(value));
    assert.deepEqual(got, [1], 'what came before there was somebody to take it');
    call(2);
    relay.cut();
    call(3);
    assert.deepEqual(got, [1, 2]);
  });

  it('that is cut keeps nothing alive for whoever still has its function', async () => {
    const made = () => {
      const owner = { values: [] as number[] };
      const relay = new Relay<number>();
      relay.pass((value) => owner.values.push(value));
      return { relay, ref: new WeakRef(owner) };
    };
    const { relay, ref } = made();
    await collectGarbage();
    assert.notEqual(ref.deref(), undefined);
    const { call } = relay;
    relay.cut();
    await collectGarbage();
    assert.equal(ref.deref(), undefined);
    call(1);
  });
});
