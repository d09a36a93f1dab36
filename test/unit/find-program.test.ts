import assert from 'node:assert/strict';
import { chmodSync, mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { findProgram } from '../../lib/find-program.js';
import { Cleanup } from '../helpers/cleanup.js';

describe('a program', () => {
  const cleanup = new Cleanup();
  afterEach(() => cleanup.run());

  it('is found in the first folder of PATH that can run it', () => {
    const folder = cleanup.folder('programs');
    const [first, second] = ['first', 'second'].map((name) => join(folder, name)) as [string, string];
    for (const place of [first, second]) {
      mkdirSync(place);
      writeFileSync(join(place, 'tool'), '');
    }
    chmodSync(join(second, 'tool'), 0o755);
    assert.equal(findProgram('tool', `relative:${first}:${second}`), join(second, 'tool'));
    assert.equal(findProgram('tool', first), undefined);
  });

  it('is found where administrators have theirs', () => {
    assert.match(findProgram('sh', '') ?? '', /^\/.*\/sh$/);
  });
});
