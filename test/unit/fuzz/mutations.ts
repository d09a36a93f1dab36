/**
 * Damage to a JSON text, as a fuzzer does it: to its values, so that it stays
 * JSON and gets far, and to its bytes. Each is data, so that fast-check can
 * shrink a failing row of them.
 */
import fc from 'fast-check';

/** What a field is set to: borders, other types, ways out of a folder, commands to a terminal. */
const VALUES: readonly unknown[] = [
  null,
  true,
  0,
  -1,
  -0,
  1,
  1.5,
  4096,
  65_536,
  2 ** 31,
  2 ** 32,
  2 ** 52,
  2 ** 53 - 1,
  2 ** 53,
  1e308,
  '',
  '.',
  '..',
  '../outside',
  '/etc/passwd',
  'sub/file',
  'a\0b',
  'a\nb',
  'manifest.json',
  'checksums',
  'data.img',
  'link',
  'pipe',
  'folder',
  '\u001b[2J\u202e',
  'x'.repeat(5000),
  'complete',
  'complete-with-invalid-blocks',
  'broken',
  'file',
  'device',
  'custom',
  [],
  {},
  [[0, 4096]],
  [[0, 2 ** 53 - 1]],
  [
    [0, 4096],
    [4096, 4096],
  ],
  [[2 ** 52, 4096]],
  { kind: 'file', name: 'link' },
  { kind: 'device', path: '/dev/null', offset: 0 },
  { kind: 'custom' },
];

const KEYS = ['__proto__', 'constructor', 'toString', 'length', 'error', 'image', ''] as const;

/** One piece of damage. `at` picks a place, whatever there is to pick from. */
export type Mutation =
  | { how: 'set'; at: number; value: number }
  | { how: 'add'; at: number; key: number; value: number }
  | { how: 'remove' | 'copy'; at: number }
  | { how: 'number'; at: number; value: number }
  | { how: 'byte'; at: number; value: number }
  | { how: 'cut' | 'repeat'; at: number; length: number };

const at = fc.nat(2 ** 20);
/** A row of damage. */
export const mutations: fc.Arbitrary<Mutation[]> = fc.array(
  fc.oneof(
    { weight: 5, arbitrary: fc.record({ how: fc.constant('set' as const), at, value: fc.nat() }) },
    {
      arbitrary: fc.record({ how: fc.constant('add' as const), at, key: fc.nat(), value: fc.nat() }),
      weight: 1,
    },
    { arbitrary: fc.record({ how: fc.constantFrom('remove' as const, 'copy' as const), at }), weight: 2 },
    {
      arbitrary: fc.record({ how: fc.constant('number' as const), at, value: fc.maxSafeInteger() }),
      weight: 2,
    },
    { arbitrary: fc.record({ how: fc.constant('byte' as const), at, value: fc.nat(255) }), weight: 1 },
    {
      arbitrary: fc.record({
        how: fc.constantFrom('cut' as const, 'repeat' as const),
        at,
        length: fc.nat(100),
      }),
      weight: 1,
    },
  ),
  { maxLength: 6 },
);

/** The text, damaged: values as long as it is JSON, bytes after that. */
export function damage(text: string, row: readonly Mutation[]): string {
  let now = text;
  for (const mutation of row) now = one(now, mutation);
  return now;
}

function one(text: string, mutation: Mutation): string {
  const { how } = mutation;
  if (how === 'byte' || how === 'cut' || how === 'repeat') return damageBytes(text, mutation);
  try {
    const json: unknown = JSON.parse(text);
    damageValue(json, mutation);
    return JSON.stringify(json);
  } catch {
    return text; // no JSON any more, or deeper than it can be written again
  }
}

function damageValue(json: unknown, mutation: Mutation): void {
  const places = placesOf(json);
  if (places.length === 0) return;
  const { holder, key } = places[mutation.at % places.length]!;
  const { how } = mutation;
  if (how === 'set') put(holder, key, VALUES[mutation.value % VALUES.length]);
  else if (how === 'number') put(holder, key, mutation.value);
  else if (how === 'remove') delete holder[key];
  else if (how === 'copy') {
    put(places[(mutation.at * 7 + 1) % places.length]!.holder, key, structuredClone(holder[key]));
  } else if (how === 'add') {
    put(holder, KEYS[mutation.key % KEYS.length]!, VALUES[mutation.value % VALUES.length]);
  }
}

type Holder = Record<string, unknown>;

/** `holder[key] = value`, also for keys that an assignment would not make a field of. */
function put(holder: Holder, key: string, value: unknown): void {
  Object.defineProperty(holder, key, { value, enumerable: true, configurable: true, writable: true });
}

const DEEPEST = 20;

function placesOf(json: unknown, found: { holder: Holder; key: string }[] = [], depth = 0) {
  if (typeof json !== 'object' || json === null || depth > DEEPEST) return found;
  for (const key of Object.keys(json)) {
    found.push({ holder: json as Holder, key });
    placesOf((json as Holder)[key], found, depth + 1);
  }
  return found;
}

function damageBytes(text: string, mutation: Mutation): string {
  const bytes = Buffer.from(text);
  if (bytes.length === 0) return text;
  const from = mutation.at % bytes.length;
  if (mutation.how === 'byte') {
    bytes[from] = mutation.value;
    return bytes.toString();
  }
  const length = 'length' in mutation ? mutation.length : 0;
  const piece = bytes.subarray(from, from + length);
  const kept = mutation.how === 'cut' ? [] : [piece, piece];
  return Buffer.concat([bytes.subarray(0, from), ...kept, bytes.subarray(from + length)]).toString();
}
