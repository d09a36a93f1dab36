/**
 * LVM's metadata as text, as `pvck --dump metadata` shows it (and vgcfgbackup,
 * see vgcfgrestore(8)): sections, and names with a number, a string or a list.
 */

/** A number, a string, or a list of them. */
export type LvmValue = number | string | (number | string)[];

/** `name { … }`. */
export interface LvmSection {
  sections: Map<string, LvmSection>;
  values: Map<string, LvmValue>;
}

const TOKEN = /\s*(?:#.*)?(?:("(?:[^"\\]|\\.)*")|([A-Za-z0-9_.+-]+)|([{}[\]=,]))?/y;

/** @throws Error that quotes what is not understood */
export function parseLvm(text: string): LvmSection {
  const tokens = [...tokensOf(text)];
  let at = 0;
  const next = (): string => {
    const token = tokens[at++];
    if (token === undefined) throw new Error('the metadata of LVM end too early');
    return token;
  };
  const scalar = (token: string): number | string => {
    if (token.startsWith('"')) return token.slice(1, -1).replace(/\\(.)/g, '$1');
    if (/^-?\d+(\.\d+)?$/.test(token)) return Number(token);
    throw new Error(`the metadata of LVM have ${JSON.stringify(token.slice(0, 40))}`);
  };
  const list = (): (number | string)[] => {
    const items: (number | string)[] = [];
    for (let token = next(); token !== ']'; token = next()) if (token !== ',') items.push(scalar(token));
    return items;
  };
  const section = (end: string | undefined): LvmSection => {
    const found: LvmSection = { sections: new Map(), values: new Map() };
    for (; at < tokens.length || end !== undefined; ) {
      const name = next();
      if (name === end) break;
      if (!/^[A-Za-z0-9_.+-]+$/.test(name) || found.sections.has(name) || found.values.has(name)) {
        throw new Error(`the metadata of LVM have ${JSON.stringify(name.slice(0, 40))} in a wrong place`);
      }
      const sign = next();
      if (sign === '{') found.sections.set(name, section('}'));
      else if (sign === '=') {
        const token = next();
        found.values.set(name, token === '[' ? list() : scalar(token));
      } else
        throw new Error(`the metadata of LVM have ${JSON.stringify(sign.slice(0, 40))} in a wrong place`);
    }
    return found;
  };
  return section(undefined);
}

function* tokensOf(text: string): Iterable<string> {
  for (let at = 0; at < text.length; ) {
    TOKEN.lastIndex = at;
    const match = TOKEN.exec(text);
    if (match === null || match[0] === '') {
      throw new Error(`the metadata of LVM have ${JSON.stringify(text.slice(at, at + 40))}`);
    }
    at += match[0].length;
    const token = match[1] ?? match[2] ?? match[3];
    if (token !== undefined) yield token;
  }
}

/** A whole number that is not negative. */
export function lvmNumber({ values }: LvmSection, name: string): number {
  const value = values.get(name);
  if (typeof value !== 'number' || !Number.isSafeInteger(value) || value < 0) {
    throw new Error(`the metadata of LVM have no ${name}`);
  }
  return value;
}

/** A list, of which the items may be none. */
export function lvmList({ values }: LvmSection, name: string): (number | string)[] {
  const value = values.get(name);
  if (!Array.isArray(value)) throw new Error(`the metadata of LVM have no list ${name}`);
  return value;
}

/** All strings in a section and in those below. */
export function* lvmStrings({ values, sections }: LvmSection): Iterable<string> {
  for (const value of values.values()) {
    for (const item of Array.isArray(value) ? value : [value]) if (typeof item === 'string') yield item;
  }
  for (const inner of sections.values()) yield* lvmStrings(inner);
}
