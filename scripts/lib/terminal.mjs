// What the scripts say to a person: steps, results, colours. Colours only on a
// terminal, and never with NO_COLOR set.

const colour = process.stdout.isTTY === true && !process.env.NO_COLOR;
const paint = (code) => (text) => (colour ? `\u001b[${code}m${text}\u001b[0m` : String(text));

export const bold = paint('1');
export const dim = paint('2');
export const red = paint('31');
export const green = paint('32');
export const yellow = paint('33');
export const cyan = paint('36');

/** A heading: what comes next. */
export function heading(text) {
  console.log(`\n${bold(`== ${text}`)}`);
}

/** One finished step. */
export function good(text) {
  console.log(`${green('  ✓')} ${text}`);
}

/** One failed step. */
export function bad(text) {
  console.log(`${red('  ✗')} ${text}`);
}

/** A remark. */
export function note(text) {
  console.log(`${yellow('  !')} ${text}`);
}

/** `1,234,567`. */
export function count(n) {
  return Number(n).toLocaleString('en-US');
}

/** `12.3 MiB`. */
export function bytes(n) {
  const units = ['bytes', 'KiB', 'MiB', 'GiB', 'TiB'];
  let value = n;
  let unit = 0;
  while (value >= 1024 && unit < units.length - 1) {
    value /= 1024;
    unit += 1;
  }
  return unit === 0 ? `${value} ${units[0]}` : `${value.toFixed(1)} ${units[unit]}`;
}

/** `4.2 ms`, `3.2 s`, `2 min 05 s`. */
export function seconds(ms) {
  if (ms < 1000) return `${ms.toFixed(1)} ms`;
  if (ms < 60_000) return `${(ms / 1000).toFixed(1)} s`;
  const whole = Math.round(ms / 1000);
  return `${Math.floor(whole / 60)} min ${String(whole % 60).padStart(2, '0')} s`;
}
