/**
 * What `snapbak doctor` says of the kernel driver. None of it is missing for
 * good: the user driver and the embedded one work without.
 */
import type { ModuleFacts } from '../module/facts.js';
import type { Check } from './doctor-command.js';

/** @param version of this package, @param abiVersion of the contract that it speaks */
export function moduleChecks(facts: ModuleFacts, version: string, abiVersion: number): Check[] {
  return [
    checkModule(facts, version, abiVersion),
    checkHeaders(facts),
    checkDkms(facts),
    checkSecureBoot(facts),
    checkLibdevmapper(facts),
  ];
}

function checkModule(facts: ModuleFacts, version: string, abiVersion: number): Check {
  const name = 'module';
  const { release, installed, loaded, driver } = facts;
  const update = '"snapbak module install" makes the one that fits; detach devices and unload the old one';
  if (loaded !== undefined) {
    if (driver !== undefined && 'abiVersion' in driver) {
      const found = `dm-snapbak ${loaded} is loaded, contract version ${driver.abiVersion}`;
      if (driver.abiVersion !== abiVersion) {
        const advice = `this library speaks version ${abiVersion}; ${update}`;
        return { name, state: 'note', found, advice };
      }
      if (loaded === version) return { name, state: 'good', found };
      return { name, state: 'note', found, advice: `this package brings ${version}; ${update}` };
    }
    const found = `dm-snapbak ${loaded} is loaded, but cannot be asked (${driver?.errno ?? 'no answer'})`;
    return { name, state: 'note', found, advice: 'run "snapbak doctor" as root' };
  }
  if (installed.includes(release)) {
    return { name, state: 'good', found: 'dm-snapbak is installed; it is loaded when it is needed' };
  }
  const found =
    installed.length === 0 ? 'not installed' : `not for this kernel, but for ${installed.join(', ')}`;
  const advice = 'to back up mounted LVM volumes and LUKS: snapbak module install (not needed for "serve")';
  return { name, state: 'note', found, advice };
}

function checkHeaders({ release, headers }: ModuleFacts): Check {
  const name = 'headers';
  if (headers.includes(release)) return { name, state: 'good', found: `of ${release}` };
  const advice = `to build the module: apt-get install linux-headers-${release}`;
  return { name, state: 'note', found: `not those of ${release}`, advice };
}

function checkDkms({ dkms, registered }: ModuleFacts): Check {
  const name = 'dkms';
  if (!dkms) {
    const advice = 'builds the module for each new kernel: apt-get install dkms';
    return { name, state: 'note', found: 'not installed', advice };
  }
  const found = registered.length === 0 ? 'knows no dm-snapbak' : `knows dm-snapbak ${registered.join(', ')}`;
  return { name, state: 'good', found };
}

function checkSecureBoot({ secureBoot, signingKey }: ModuleFacts): Check {
  const name = 'secure boot';
  if (secureBoot === false) return { name, state: 'good', found: 'off' };
  if (secureBoot === undefined) return { name, state: 'note', found: 'unknown' };
  const advice =
    signingKey !== undefined
      ? 'the kernel loads the module only when the key of DKMS is enrolled, once: ' +
        `"mokutil --import ${signingKey}", reboot, and confirm with the password`
      : 'DKMS makes a key with the first module that it builds; it has to be enrolled then, see docs/kernel-driver.md';
  return { name, state: 'note', found: 'on', advice };
}

function checkLibdevmapper({ libdevmapper }: ModuleFacts): Check {
  const name = 'libdevmapper';
  if (libdevmapper) return { name, state: 'good', found: 'installed' };
  const advice = '"snapbak attach" needs it: apt-get install libdevmapper1.02.1';
  return { name, state: 'note', found: 'not installed', advice };
}
