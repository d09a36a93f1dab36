/**
 * How a restore or a verify looks: events as JSON, a bar on a terminal, or a
 * line every few seconds in a log.
 */
import { SingleBar } from 'cli-progress';
import { formatSize } from '../extent.js';
import type { ReplayProgress } from '../restore/replay.js';
import type { Output } from './output.js';

const LINE_MS = 5000;

export interface ReplayView {
  progress(progress: ReplayProgress): void;
  end(): void;
}

export function replayView(
  output: Output,
  json: boolean,
  now: () => number = () => performance.now(),
): ReplayView {
  if (json) return { progress: (progress) => output.event({ event: 'progress', ...progress }), end() {} };
  if (output.isTerminal) return new Bar();
  let next = now() + LINE_MS;
  return {
    progress({ doneBytes, totalBytes }) {
      if (now() < next) return;
      next = now() + LINE_MS;
      const percent = totalBytes === 0 ? 100 : Math.floor((100 * doneBytes) / totalBytes);
      output.warn(`${percent}% ${formatSize(doneBytes)} of ${formatSize(totalBytes)}`);
    },
    end() {},
  };
}

class Bar implements ReplayView {
  #bar: SingleBar | undefined;

  progress({ doneBytes, totalBytes }: ReplayProgress): void {
    if (this.#bar === undefined) {
      this.#bar = new SingleBar({
        format: '[{bar}] {percentage}% {text}, {eta_formatted} left',
        barCompleteChar: '█',
        barIncompleteChar: '░',
        barsize: 24,
        linewrap: true, // trimmed to the width of the terminal
        hideCursor: null,
        gracefulExit: false,
        clearOnComplete: true,
      });
      this.#bar.start(Math.max(1, totalBytes), doneBytes, { text: '' });
    }
    this.#bar.update(doneBytes, { text: `${formatSize(doneBytes)} of ${formatSize(totalBytes)}` });
  }

  end(): void {
    this.#bar?.stop();
    this.#bar = undefined;
  }
}
