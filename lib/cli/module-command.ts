/**
 * `snapbak module install|uninstall|status`: the kernel module, through DKMS.
 */
import type { Command } from 'commander';
import { binding } from '../binding.js';
import { type InstalledModule, installModule, uninstallModule } from '../module/dkms.js';
import { type ModuleFacts, moduleFacts } from '../module/facts.js';
import { TOOL_VERSION } from '../tool-version.js';
import type { Cli } from './cli.js';

/** What the commands do; tests have ones of their own. */
export interface ModuleActions {
  installModule: typeof installModule;
  uninstallModule: typeof uninstallModule;
  moduleFacts: typeof moduleFacts;
  /** The version of the contract that this library speaks. */
  abiVersion(): number;
}

const thisActions: ModuleActions = {
  installModule,
  uninstallModule,
  moduleFacts,
  abiVersion: () => binding().abiVersion,
};

export function registerModule(program: Command, cli: Cli, actions: ModuleActions = thisActions): void {
  const module = program
    .command('module')
    .description('install the kernel module dm-snapbak, remove it, or tell what there is of it');
  module
    .command('install')
    .description('build and install the module of this package through DKMS, for new kernels as well')
    .option('--kernel <release>', 'for this kernel, as "uname -r" says it (default: the running one)')
    .option('--json', 'one JSON object')
    .action(async ({ kernel, json = false }: { kernel?: string; json?: boolean }) => {
      if (!json) cli.output.line('building the module; this takes a minute');
      const installed = await actions.installModule(kernel);
      if (json) cli.output.event({ event: 'module-installed', ...installed });
      else for (const line of installedLines(installed)) cli.output.line(line);
    });
  module
    .command('uninstall')
    .description('remove the module for all kernels')
    .option('--json', 'one JSON object')
    .action(async ({ json = false }: { json?: boolean }) => {
      const versions = await actions.uninstallModule();
      if (json) cli.output.event({ event: 'module-uninstalled', versions });
      else
        cli.output.line(
          versions.length === 0 ? 'DKMS knows no version of it' : `removed ${versions.join(', ')}`,
        );
    });
  module
    .command('status')
    .description('what there is of the module: installed for which kernels, loaded, in which version')
    .option('--json', 'one JSON object')
    .action(async ({ json = false }: { json?: boolean }) => {
      const facts = await actions.moduleFacts();
      const own = { version: TOOL_VERSION, abiVersion: actions.abiVersion() };
      if (json) cli.output.event({ event: 'module', package: own, ...facts });
      else for (const line of statusLines(facts, own)) cli.output.line(line);
    });
}

function installedLines({ version, kernel, loaded, note }: InstalledModule): string[] {
  const lines = [`installed version ${version} for ${kernel}${loaded ? ', and loaded it' : ''}`];
  if (note !== undefined) lines.push(note);
  return lines;
}

function statusLines(facts: ModuleFacts, own: { version: string; abiVersion: number }): string[] {
  const { installed, registered, loaded, driver, release } = facts;
  const list = (items: string[]) => (items.length === 0 ? 'none' : items.join(', '));
  const lines = [
    `this package: ${own.version}, contract version ${own.abiVersion}`,
    `in DKMS:      ${list(registered)}`,
    `installed:    ${list(installed)}`,
    `running:      ${release}${installed.includes(release) ? '' : ' (not installed for it)'}`,
    `loaded:       ${loaded ?? 'no'}`,
  ];
  if (driver !== undefined) {
    lines.push(
      `speaks:       ${'errno' in driver ? `not known (${driver.errno})` : `contract version ${driver.abiVersion}`}`,
    );
  }
  return lines;
}
