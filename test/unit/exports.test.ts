import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';

/** A JSON file of the package. */
function json(name: string) {
  return JSON.parse(readFileSync(new URL(`../../${name}`, import.meta.url), 'utf8'));
}

describe('the API pages', () => {
  it('describe everything that the package exports', () => {
    const exports = Object.values<{ default?: string }>(json('package.json').exports);
    const sources = exports
      .flatMap((entry) => entry.default ?? [])
      .map((path) => path.replace('./dist/', 'lib/').replace(/\.js$/, '.ts'));
    assert.ok(sources.length >= 3);
    assert.deepEqual(json('typedoc.json').entryPoints.toSorted(), sources.toSorted());
  });
});
