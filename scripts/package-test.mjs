// The package as its users get it: npm pack, install the tarball in an empty
// folder, import it, require it, run its command. Ends with the counts.
import { existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { ensureBuilt, nodeGypEnvironment } from './lib/build.mjs';
import { add, line, none, one } from './lib/counts.mjs';
import { capture, ROOT } from './lib/run.mjs';
import { bad, dim, good } from './lib/terminal.mjs';

/** A backup of an embedded origin, and its restore, by the installed package alone. */
const STORY = `
const assert = require('node:assert/strict');
const fs = require('node:fs');
const { openEmbedded, startBackup, directoryTarget, restore, verify } = require('@snapbak/core');
(async () => {
  const before = Buffer.alloc(3 * 65536 + 5, 'before');
  fs.writeFileSync('origin.img', before);
  const origin = await openEmbedded('origin.img');
  const backup = await startBackup({ origin, target: directoryTarget('backup') });
  await origin.write(0, Buffer.alloc(100000, 'after'));
  await backup.finished;
  await origin.close();
  await verify({ backup: 'backup' });
  await restore({ backup: 'backup', to: 'restored.img' });
  assert.ok(fs.readFileSync('restored.img').equals(before), 'the restored image is not the start instant');
  assert.ok(!fs.readFileSync('origin.img').equals(before), 'the write is not on the origin');
})().catch((error) => { console.error(error); process.exit(1); });
`;

const NAMES = [
  'openOrigin',
  'openEmbedded',
  'attachOrigin',
  'detachOrigin',
  'startBackup',
  'BlockList',
  'memoryContainer',
  'fileContainer',
  'deviceContainer',
  'directoryTarget',
  'deviceTarget',
  'restore',
  'verify',
  'readManifest',
];

/** Adapters, and the optional peer of each. */
const ADAPTERS = { 'prom-client': 'prom-client', opentelemetry: '@opentelemetry/api' };

let total = none();
/** One check; `run` gives a text when something is wrong. */
async function check(title, run) {
  const wrong = await run().catch((error) => String(error?.stack ?? error));
  (wrong === undefined ? good : bad)(wrong === undefined ? title : `${title}\n${dim(wrong)}`);
  total = add(total, one(wrong === undefined));
  return wrong === undefined;
}

/** Runs a program; its output when it fails. */
async function succeeds(command, args, options) {
  const { code, stdout, stderr } = await capture(command, args, options);
  return code === 0 ? undefined : `${command} ${args.join(' ')}: exit status ${code}\n${stdout}${stderr}`;
}

const folder = mkdtempSync(join(tmpdir(), 'snapbak-package-'));
// no terminal, and a failure rather than a question
const env = { ...nodeGypEnvironment(), npm_config_yes: 'false' };

async function story() {
  const app = join(folder, 'app');
  mkdirSync(app);
  writeFileSync(join(app, 'package.json'), JSON.stringify({ name: 'app', version: '1.0.0', private: true }));
  let tarball = '';
  const packed = await check('npm pack makes a tarball', async () => {
    const wrong = await succeeds('npm', ['pack', '--silent', '--pack-destination', folder], { env });
    // what is packed would shadow what is built here later
    rmSync(join(ROOT, 'prebuilds'), { recursive: true, force: true });
    tarball = readdirSync(folder).find((name) => name.endsWith('.tgz')) ?? '';
    return wrong ?? (tarball === '' ? 'there is no tarball' : undefined);
  });
  if (!packed) return;
  await check('the tarball holds what runs and no tests', async () => {
    const { stdout } = await capture('tar', ['-tzf', join(folder, tarball)]);
    const files = stdout.split('\n');
    const wanted = [
      'dist/index.js',
      'dist/index.d.ts',
      'dist/cli/main.js',
      'binding.gyp',
      'kernel-module/Kbuild',
      'kernel-module/Makefile',
      'kernel-module/dkms.conf',
      'kernel-module/compat/dm-snapbak-compat.h',
      'kernel-module/include/uapi/linux/snapbak.h',
      'README.md',
      'LICENSE',
    ];
    const missing = wanted.filter((name) => !files.includes(`package/${name}`));
    for (const built of ['.node', '/nbdkit-snapbak-plugin.so', '/nbdkit-snapbak-export-plugin.so']) {
      const there = files.some((name) => name.startsWith('package/prebuilds/') && name.endsWith(built));
      if (!there) missing.push(`prebuilds/*${built}`);
    }
    const stray = files.filter((name) =>
      /^package\/(test|bench|scripts|build|\.ci)|^package\/kernel-module\/.*\.(o|ko|mod|cmd)$/.test(name),
    );
    if (missing.length > 0) return `missing: ${missing.join(', ')}`;
    return stray.length > 0 ? `does not belong there: ${stray.join(', ')}` : undefined;
  });
  const installed = await check('the tarball installs in an empty folder', () =>
    // what the lock file brought is in the cache of npm already
    succeeds('npm', ['install', '--no-audit', '--no-fund', '--prefer-offline', join(folder, tarball)], {
      cwd: app,
      env,
    }),
  );
  if (!installed) return;
  await check('every promised name can be imported', () => {
    const program = `import * as snapbak from '@snapbak/core';
      const missing = ${JSON.stringify(NAMES)}.filter((name) => typeof snapbak[name] !== 'function');
      if (missing.length > 0) throw new Error('not exported: ' + missing.join(', '));`;
    return succeeds(process.execPath, ['--input-type=module', '-e', program], { cwd: app });
  });
  for (const [adapter, peer] of Object.entries(ADAPTERS)) {
    const path = join(app, 'node_modules', peer);
    await check(`${peer} is needed for its adapter alone`, async () => {
      if (existsSync(path)) return `${path} came with the package`;
      mkdirSync(dirname(path), { recursive: true });
      symlinkSync(join(ROOT, 'node_modules', peer), path);
      const program = `import { createBackupMetrics } from '@snapbak/core/${adapter}';
        if (typeof createBackupMetrics().add !== 'function') throw new Error('it takes no backup');`;
      return succeeds(process.execPath, ['--input-type=module', '-e', program], { cwd: app });
    });
  }
  await check('CommonJS can require it', () => {
    const program = "if (typeof require('@snapbak/core').startBackup !== 'function') process.exit(1)";
    return succeeds(process.execPath, ['-e', program], { cwd: app });
  });
  await check('it takes and restores a backup', () => {
    writeFileSync(join(app, 'story.cjs'), STORY);
    return succeeds(process.execPath, ['story.cjs'], { cwd: app });
  });
  await check('npx snapbak doctor --json answers in JSON', async () => {
    const { code, stdout, stderr } = await capture('npx', ['--no-install', 'snapbak', 'doctor', '--json'], {
      cwd: app,
    });
    const lines = stdout.split('\n').filter((text) => text !== '');
    if (code !== 0 || lines.length === 0) return `exit status ${code}\n${stdout}${stderr}`;
    for (const text of lines) JSON.parse(text);
    return undefined;
  });
  await check('its types are there', async () => {
    if (!existsSync(join(app, 'node_modules/@snapbak/core/dist/index.d.ts'))) return 'there is no index.d.ts';
    writeFileSync(
      join(app, 'use.mts'),
      "import { startBackup, BlockList } from '@snapbak/core';\nexport const both = [startBackup, BlockList] as const;\n" +
        Object.keys(ADAPTERS)
          .map(
            (adapter) => `export type * as ${adapter.replace('-', '_')} from '@snapbak/core/${adapter}';\n`,
          )
          .join(''),
    );
    const tsc = join(ROOT, 'node_modules/typescript/bin/tsc');
    const types = join(ROOT, 'node_modules/@types');
    const args = ['--noEmit', '--strict', '--target', 'es2022', '--lib', 'es2023,esnext.disposable'];
    args.push('--module', 'nodenext', '--typeRoots', types, '--types', 'node', 'use.mts');
    return succeeds(process.execPath, [tsc, ...args], { cwd: app });
  });
}

try {
  await ensureBuilt();
  await story();
} catch (error) {
  await check('the package is built', () => Promise.reject(error));
} finally {
  rmSync(folder, { recursive: true, force: true });
}
console.log(`\n${line(total)}`);
process.exitCode = total.failed === 0 ? 0 : 1;
