// SPDX-License-Identifier: MIT
// Attaching and detaching in one process, where the stories need it often, or
// need a step to fail: starting Node.js takes seconds in a virtual machine.
//   node attach-tool.mjs cycles PATH N     attaches and detaches; prints what each took
//   node attach-tool.mjs for-ever PATH     the same until it is killed; "ready" first
//   node attach-tool.mjs native PARTS      the addon's own attach, of a JSON object; prints the outcome

import { binding } from '../../../dist/binding.js';
import { attachOrigin, detachOrigin } from '../../../dist/index.js';

async function cycle(path) {
  const { stoppedMs } = await attachOrigin(path);
  const { outcome } = await detachOrigin(path);
  return `${outcome} ${stoppedMs.toFixed(1)} ms`;
}

async function run(command, what, count) {
  switch (command) {
    case 'cycles':
      for (let i = 0; i < Number(count); i++) console.log(await cycle(what));
      break;
    case 'for-ever':
      binding();
      console.log('ready');
      for (;;) await cycle(what).catch(() => {}); // what the one before left may be in the way
    case 'native': {
      const layer = { lowerUuid: '', target: 'snapbak', offset: 0, hidden: false, ...JSON.parse(what) };
      console.log(JSON.stringify(await binding().deviceMapper.attach(layer)));
      break;
    }
    default:
      throw new Error(`there is no command ${command}`);
  }
}

void run(...process.argv.slice(2));
