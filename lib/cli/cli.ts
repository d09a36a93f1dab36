/** What a command needs of the world around it. */
import type { Output } from './output.js';

export interface Cli {
  readonly output: Output;
  /** Sets the exit status; the process ends when its work does. */
  exit(status: number): void;
}
