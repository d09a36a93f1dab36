/** Processes of a machine on the host: they end with the runner, however it ends. */
import { type ChildProcess, type StdioOptions, spawn } from 'node:child_process';

/** A child that the kernel kills when this process dies, with a promise of its end. */
export interface Child {
  process: ChildProcess;
  ended: Promise<{ code: number | null; signal: NodeJS.Signals | null }>;
  /** Ends it, and waits until it is gone. */
  kill(): Promise<void>;
}

export function startChild(program: string, args: string[], stdio: StdioOptions): Child {
  const child = spawn('setpriv', ['--pdeathsig', 'KILL', '--', program, ...args], { stdio });
  const ended = new Promise<{ code: number | null; signal: NodeJS.Signals | null }>((resolve) => {
    child.once('error', () => resolve({ code: 127, signal: null }));
    child.once('close', (code, signal) => resolve({ code, signal }));
  });
  return {
    process: child,
    ended,
    async kill() {
      if (child.exitCode === null && child.signalCode === null) child.kill('SIGKILL');
      await ended;
    },
  };
}
