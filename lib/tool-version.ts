/** This package's own version, in a file that loads nothing else: every command begins with it. */
import { createRequire } from 'node:module';

// lib/ in the sources and dist/ in the package both lie one below the root
const { version } = createRequire(import.meta.url)('../package.json') as { version: string };

/** As package.json has it. */
export const TOOL_VERSION: string = version;
