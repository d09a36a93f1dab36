#!/usr/bin/env node
/**
 * The program `snapbak`.
 */
import { run } from './program.js';

void run(process.argv.slice(2)).then((status) => {
  process.exitCode = status; // not exit(): what was written has to get out first
});
