/** What a test or a script has to undo: run last in, first out, whatever happened before. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

export class Cleanup {
  #steps: { what: string; undo: () => unknown }[] = [];

  /** Adds a step. The steps added last are undone first. */
  defer(what: string, undo: () => unknown): void {
    this.#steps.push({ what, undo });
  }

  /** An empty folder that is removed at the end. */
  folder(name: string): string {
    const path = mkdtempSync(join(tmpdir(), `snapbak-${name}-`));
    this.defer(`remove ${path}`, () => rmSync(path, { recursive: true, force: true }));
    return path;
  }

  /** Undoes every step, also after one that fails; then throws what failed. Idempotent. */
  async run(): Promise<void> {
    const errors: Error[] = [];
    for (let step = this.#steps.pop(); step !== undefined; step = this.#steps.pop()) {
      try {
        await step.undo();
      } catch (error) {
        errors.push(new Error(`${step.what}: ${(error as Error).message}`, { cause: error }));
      }
    }
    if (errors.length === 1) throw errors[0];
    if (errors.length > 1) throw new AggregateError(errors, errors.map((error) => error.message).join('; '));
  }
}
