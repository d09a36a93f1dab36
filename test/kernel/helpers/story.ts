/**
 * A story: a script of guest/stories/ that a machine runs from its first line to its last, and each of whose
 * sentences is a test here. One boot serves them all.
 *
 * The script says `it 'SENTENCE' function` and prints `ok - SENTENCE` or `not ok - SENTENCE`, with lines of
 * `# ` before it that tell why (guest/stories/lib.sh).
 */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { must } from '../../helpers/programs.js';
import { DEFAULT_KERNEL } from '../vm/kernel.js';
import { runVm, type VmOptions, type VmResult } from '../vm/run.js';
import { moduleFor, ROOT } from './scripts.js';

const GUEST = join(ROOT, 'test/kernel/guest');

export type StoryOptions = Omit<VmOptions, 'command' | 'kernel' | 'modules' | 'onStdout'>;

interface Told {
  ok: boolean;
  why: string;
}

/** To be called in a `describe`: the tests of guest/stories/NAME.sh. */
export function story(name: string, options: StoryOptions = {}): void {
  const path = join(GUEST, 'stories', `${name}.sh`);
  const sentences = sentencesOf(path);
  const telling = new Telling();

  before(`the machine for ${name}.sh`, async function () {
    this.timeout(0); // the scripts have limits of their own
    const module = await moduleFor(DEFAULT_KERNEL);
    await must('make', ['-C', GUEST], { timeoutMs: 120_000 });
    telling.begin({
      ...options,
      kernel: DEFAULT_KERNEL,
      command: ['bash', path],
      modules: [module],
      env: { MODULE: module, ...passedOn('SEED', 'ROUNDS'), ...options.env },
    });
  });

  for (const sentence of sentences) {
    it(sentence, async function () {
      this.timeout(0); // the machine has one
      const { ok, why } = await telling.told(sentence);
      assert.ok(ok, why);
    });
  }

  it('leaves the kernel nothing to complain of', async function () {
    this.timeout(0);
    const { status, stderr } = await telling.end();
    assert.equal(status, 0, stderr);
    const failed = [...telling.lines].filter(([, { ok }]) => !ok).map(([sentence]) => sentence);
    assert.deepEqual(failed, [], 'failed when the machine was started again');
  });
}

/** A line each, in single quotes: so that they can be read here without running anything. */
function sentencesOf(path: string): string[] {
  const text = readFileSync(path, 'utf8');
  const sentences = [...text.matchAll(/^it '([^']+)' \w+$/gm)].map((match) => match[1]!);
  assert.equal(
    sentences.length,
    text.match(/^it /gm)?.length,
    `${path}: a line is not it 'SENTENCE' function`,
  );
  assert.equal(new Set(sentences).size, sentences.length, `${path}: a sentence comes twice`);
  return sentences;
}

function passedOn(...names: string[]): Record<string, string> {
  return Object.fromEntries(
    names.flatMap((name) => (process.env[name] === undefined ? [] : [[name, process.env[name]]])),
  );
}

/** What a running script has told so far, and its end. */
class Telling {
  readonly lines = new Map<string, Told>();
  #ended: Promise<VmResult> | undefined;
  #rest = '';
  #why = '';
  #wake: () => void = () => {};

  begin(options: VmOptions): void {
    this.#ended = runVm({ ...options, onStdout: (text) => this.#read(text) });
    // whoever waits for a sentence or for the end is told; nobody may wait at this moment
    this.#ended.catch(() => {});
  }

  async end(): Promise<VmResult> {
    assert.ok(this.#ended, 'the machine was not started');
    return await this.#ended;
  }

  /** Waits for a sentence; throws what ended the machine before it came. */
  async told(sentence: string): Promise<Told> {
    let ended = false;
    for (;;) {
      const told = this.lines.get(sentence);
      if (told) return told;
      if (ended) assert.fail('the script ended without a word of it');
      const news = new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
      ended = await Promise.race([news.then(() => false), this.end().then(() => true)]);
    }
  }

  #read(text: string): void {
    const lines = (this.#rest + text).split('\n');
    this.#rest = lines.pop() ?? '';
    for (const line of lines) {
      const [, not, sentence] = /^(not )?ok - (.*)$/.exec(line) ?? [];
      if (sentence === undefined) {
        this.#why += `${line}\n`;
        continue;
      }
      this.lines.set(sentence, { ok: not === undefined, why: this.#why });
      this.#why = '';
    }
    this.#wake();
  }
}
