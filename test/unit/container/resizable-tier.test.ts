import assert from 'node:assert/strict';
import { constants } from 'node:os';
import { ResizableTier, ResizeUsers } from '../../../lib/container/resizable-tier.js';
import { nativeError } from '../../helpers/fake-session.js';

const { ECANCELED, EIO, ENOMEM, ENOSPC } = constants.errno;
const code = 'ERR_SNAPBAK_RESIZE';

/** A tier of 100 bytes, a log of what is done, and moves that the test ends. */
function setup() {
  const log: string[] = [];
  const moves: { resolve(): void; reject(error: Error): void }[] = [];
  const failing: { extend?: Error; cut?: Error } = {};
  const tier = new ResizableTier(
    {
      path: '/c',
      capacity: 100,
      async extend(from, to) {
        log.push(`extend ${from} ${to}`);
        if (failing.extend !== undefined) throw failing.extend;
      },
      async cut(to) {
        log.push(`cut ${to}`);
        if (failing.cut !== undefined) throw failing.cut;
      },
    },
    (capacity) => {
      log.push(`move ${capacity}`);
      return new Promise((resolve, reject) => moves.push({ resolve, reject }));
    },
  );
  /** Waits until so many moves were asked for. */
  const moved = async (count: number) => {
    for (let i = 0; i < 100 && moves.length < count; i++) await Promise.resolve();
    assert.equal(moves.length, count);
  };
  return { log, moves, moved, failing, tier };
}

describe('a second tier that is resized', () => {
  it('makes the space first when it grows', async () => {
    const { tier, log, moves, moved } = setup();
    const grown = tier.resize(150);
    await moved(1);
    moves[0]!.resolve();
    await grown;
    assert.deepEqual(log, ['extend 100 150', 'move 150']);
  });

  it('gives the space back last when it shrinks', async () => {
    const { tier, log, moves, moved } = setup();
    const shrunk = tier.resize(40);
    await moved(1);
    assert.deepEqual(log, ['move 40']);
    moves[0]!.resolve();
    await shrunk;
    assert.deepEqual(log, ['move 40', 'cut 40']);
  });

  it('that shrinks keeps its space when it is to be larger again', async () => {
    const { tier, log, moves, moved } = setup();
    const shrunk = assert.rejects(tier.resize(40), {
      code,
      path: '/c',
      message: /cannot resize \/c: it was resized again before that was done/,
    });
    await moved(1);
    const again = tier.resize(120);
    await moved(2);
    moves[0]!.reject(nativeError(ECANCELED, 'resize'));
    moves[1]!.resolve();
    await again;
    await shrunk;
    assert.deepEqual(log, ['move 40', 'extend 100 120', 'move 120']);
  });

  it('is not cut for a shrink that was drained, but overtaken', async () => {
    const { tier, log, moves, moved } = setup();
    const shrunk = assert.rejects(tier.resize(40), { code, message: /resized again/ });
    await moved(1);
    moves[0]!.resolve();
    const again = tier.resize(90);
    await moved(2);
    moves[1]!.resolve();
    await again;
    await shrunk;
    assert.deepEqual(log, ['move 40', 'move 90', 'cut 90']);
  });

  it('that shrinks goes on shrinking when there is no space for what overtakes it', async () => {
    const { tier, log, moves, moved, failing } = setup();
    const shrunk = tier.resize(40);
    await moved(1);
    failing.extend = nativeError(ENOSPC, 'preallocate');
    await assert.rejects(tier.resize(150), { code, errno: -ENOSPC });
    moves[0]!.resolve();
    await shrunk;
    assert.deepEqual(log, ['move 40', 'extend 100 150', 'cut 100', 'cut 40']);
  });

  it('that shrinks goes on shrinking when what overtakes it is refused by the session', async () => {
    const { tier, log, moves, moved } = setup();
    const shrunk = tier.resize(40);
    await moved(1);
    const refused = [tier.resize(150)].map((grown) => assert.rejects(grown, { code, errno: -ENOMEM }));
    await moved(2);
    refused.push(assert.rejects(tier.resize(200), { code, errno: -ENOMEM }));
    await moved(3);
    for (const move of moves.slice(1)) move.reject(nativeError(ENOMEM, 'resize'));
    await Promise.all(refused);
    moves[0]!.resolve();
    await shrunk;
    assert.deepEqual(log, ['move 40', 'extend 100 150', 'move 150', 'extend 150 200', 'move 200', 'cut 40']);
  });

  it('is cut for a shrink that was drained before what overtook it was refused', async () => {
    const { tier, log, moves, moved } = setup();
    const shrunk = assert.rejects(tier.resize(40), { code, message: /resized again/ });
    await moved(1);
    const refused = assert.rejects(tier.resize(150), { code, errno: -ENOMEM });
    await moved(2);
    moves[0]!.resolve();
    await shrunk;
    moves[1]!.reject(nativeError(ENOMEM, 'resize'));
    await refused;
    assert.deepEqual(log, ['move 40', 'extend 100 150', 'move 150', 'cut 40']);
  });

  it('keeps its size where there is no space, and says why', async () => {
    const { tier, log, moves, moved, failing } = setup();
    failing.extend = nativeError(ENOSPC, 'preallocate');
    await assert.rejects(tier.resize(150), {
      code,
      errno: -ENOSPC,
      message: /cannot resize \/c: no space left on device \(ENOSPC\)/,
    });
    assert.deepEqual(log, ['extend 100 150', 'cut 100']);
    delete failing.extend;
    const next = tier.resize(150); // it is not stuck
    await moved(1);
    moves[0]!.resolve();
    await next;
    assert.deepEqual(log.slice(2), ['extend 100 150', 'move 150']);
  });

  it('that is lost says so, and gives new space back', async () => {
    const { tier, log, moves, moved } = setup();
    const grown = assert.rejects(tier.resize(150), {
      code,
      message: /cannot resize \/c: it failed, and is used no more/,
    });
    await moved(1);
    moves[0]!.reject(nativeError(EIO, 'resize'));
    await grown;
    assert.deepEqual(log, ['extend 100 150', 'move 150', 'cut 100']);
  });

  it('says that the space could not be given back', async () => {
    const { tier, moves, moved, failing } = setup();
    failing.cut = Object.assign(new Error('i/o'), { code: 'EIO', errno: -EIO });
    const shrunk = assert.rejects(tier.resize(40), { code, message: /cannot give the space of \/c back/ });
    await moved(1);
    moves[0]!.resolve();
    await shrunk;
  });

  it('is not touched after the end of the backup', async () => {
    const { tier, log, moves, moved } = setup();
    const message = /cannot resize \/c: the backup ended before that was done/;
    const waits = assert.rejects(tier.resize(40), { code, message });
    await moved(1);
    await tier.close();
    moves[0]!.reject(nativeError(ECANCELED, 'resize'));
    await waits;
    await assert.rejects(tier.resize(200), { code, message });
    assert.deepEqual(log, ['move 40']);
  });
});

describe('a second tier that is resized while the backup ends', () => {
  it('says so, though its space is still there', async () => {
    const { tier, log, moves, moved } = setup();
    const message = /cannot resize \/c: the backup ended before that was done/;
    const waits = assert.rejects(tier.resize(40), { code, message });
    await moved(1);
    moves[0]!.reject(nativeError(ECANCELED, 'resize'));
    await waits;
    assert.deepEqual(log, ['move 40']);
  });
});

describe('a container that is resized', () => {
  it('tells all who use it, and refuses where nobody does', async () => {
    const users = new ResizeUsers('/c');
    const refused = { code, path: '/c', message: /cannot resize \/c: no backup uses it/ };
    await assert.rejects(users.resize(5), refused);
    const asked: number[] = [];
    const leave = users.add(async (bytes) => void asked.push(bytes));
    users.add(async (bytes) => void asked.push(-bytes));
    await users.resize(7);
    assert.deepEqual(asked, [7, -7]);
    leave();
    await users.resize(8);
    assert.deepEqual(asked, [7, -7, -8]);
  });
});
