// Removes dist/, so that no file of a source that is gone stays in it.
import { rmSync } from 'node:fs';
import { join } from 'node:path';
import { ROOT } from './lib/run.mjs';

rmSync(join(ROOT, 'dist'), { recursive: true, force: true });
