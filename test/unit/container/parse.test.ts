import assert from 'node:assert/strict';
import { parseContainer } from '../../../lib/container/parse.js';

describe('a container as text', () => {
  it('is memory, a file, a device, or memory before some of them', () => {
    const texts: [string | string[], string][] = [
      ['memory:256M', 'memory of 256 MiB'],
      ['file:/var/tmp/a:10G', '64 MiB of memory, then 10 GiB of file /var/tmp/a'],
      ['file:/odd:path:1G', '64 MiB of memory, then 1 GiB of file /odd:path'],
      ['device:/dev/sdb1', '64 MiB of memory, then device /dev/sdb1'],
      [['memory:1M', 'file:/a:2M'], '1 MiB of memory, then 2 MiB of file /a'],
      [
        ['device:/dev/disk/by-path/pci-0:1', 'memory:1M'],
        '1 MiB of memory, then device /dev/disk/by-path/pci-0:1',
      ],
      [
        ['file:/b:2M', 'memory:1M', 'device:/dev/c', 'file:/a:3M'],
        '1 MiB of memory, then 2 MiB of file /b, then device /dev/c, then 3 MiB of file /a',
      ],
    ];
    for (const [text, description] of texts) assert.equal(parseContainer(text).description, description);
  });

  it('is refused with the text and what is wrong with it', () => {
    const wrong: [string | string[], RegExp][] = [
      ['', /not a container: "": expected memory:SIZE, file:PATH:SIZE or device:PATH, e\.g\. memory:64MiB/],
      ['1G', /not a container: "1G": expected/],
      ['memory', /not a container: "memory"/],
      ['memory:', /not a container: "memory:": not a size: ""/],
      ['memory:0', /memory must be above 0/],
      ['memory:1KB', /binary/],
      ['file:/a', /expected file:PATH:SIZE/],
      ['file::1G', /expected file:PATH:SIZE/],
      ['file:/a:x', /not a container: "file:\/a:x": not a size: "x"/],
      ['file:/a:0', /the size must be above 0/],
      ['device:', /the path is missing/],
      [[], /container must not be empty/],
      [['memory:1M', 'memory:2M'], /memory:SIZE is given twice/],
      [['file:/a:1M', 'device:'], /the path is missing/],
    ];
    for (const [text, message] of wrong)
      assert.throws(() => parseContainer(text), { name: 'RangeError', message }, String(text));
    assert.throws(() => parseContainer(5 as unknown as string), { name: 'TypeError', message: /got 5/ });
  });
});
