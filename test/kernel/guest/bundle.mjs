// SPDX-License-Identifier: MIT
// The project's programs for the guest, each as one file that starts with V8's cache of its code: in an emulated
// machine Node.js takes longer to find, read and compile a hundred modules than most commands take for their work.
//   node bundle.mjs FOLDER     makes FOLDER/snapbak and FOLDER/attach-tool, of dist/
import { chmod, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import v8 from 'node:v8';
import vm from 'node:vm';
import { build } from 'esbuild';

const here = (path) => fileURLToPath(new URL(path, import.meta.url));
// snapbak last: it is what make looks at
const PROGRAMS = { 'attach-tool': here('attach-tool.mjs'), snapbak: here('../../../dist/cli/main.js') };
const folder = process.argv[2];

/** What a module finds by its own place, the addon for one, it finds from the bundle too. */
const places = {
  name: 'places',
  setup(bundler) {
    bundler.onLoad({ filter: /\/dist\/.*\.js$/ }, async ({ path }) => {
      const text = await readFile(path, 'utf8');
      return { contents: text.replaceAll('import.meta.url', JSON.stringify(pathToFileURL(path).href)) };
    });
  },
};

/** The program itself, run by the kernel with this Node.js and no other: the cache is of its version. */
const LOADER = `#!${process.execPath}
const { readFileSync } = require('node:fs');
const { Script } = require('node:vm');
const filename = __filename + '.cjs';
const cachedData = readFileSync(__filename + '.cache');
const script = new Script(readFileSync(filename, 'latin1'), { filename, cachedData });
if (script.cachedDataRejected) throw new Error(filename + ' was made by another Node.js: make clean');
script.runInThisContext()(exports, require, module);
`;

// without it, what has no extension counts as an ECMAScript module here
await writeFile(join(folder, 'package.json'), '{"type":"commonjs"}\n');
for (const [name, entry] of Object.entries(PROGRAMS)) {
  const program = join(folder, name);
  const { outputFiles } = await build({
    entryPoints: [entry],
    bundle: true,
    platform: 'node',
    format: 'cjs',
    target: 'node20',
    minifyWhitespace: true,
    minifySyntax: true,
    legalComments: 'none',
    logLevel: 'warning',
    plugins: [places],
    write: false,
  });
  const text = `(function (exports, require, module) {${outputFiles[0].text.replace(/^#!.*/, '')}\n})`;
  // so that a letter is a byte, in V8 too
  if (/[^\0-\x7f]/.test(text)) throw new Error(`${name}: there is more than ASCII in it`);
  // the cache of all functions; the flag is taken back before, as a cache is good for the same flags only
  v8.setFlagsFromString('--no-lazy');
  const script = new vm.Script(text, { filename: `${program}.cjs` });
  v8.setFlagsFromString('--lazy');
  await writeFile(`${program}.cjs`, text);
  await writeFile(`${program}.cache`, script.createCachedData());
  await writeFile(program, LOADER);
  await chmod(program, 0o755);
}
