/**
 * Whether what is left after a session can be: the origin after what its
 * writers were answered, and a backup that says that it is good.
 */
import { BlockList } from '../../lib/index.js';
import { stamped } from '../helpers/images.js';
import { ModelDisk } from '../helpers/model-disk.js';
import type { Story, Told } from './journal.js';
import type { Plan } from './plan.js';
import { apply, areasOf } from './writer.js';

/** The origin as the session finds it. */
export function contentOf({ size, holes }: Plan): Buffer {
  const content = stamped(0, size, 1);
  for (const [offset, length] of holes) content.fill(0, offset, offset + length);
  return content;
}

/** What is wrong with the origin, or undefined. */
export function judgeOrigin(before: Uint8Array, { requests }: Story, actual: Uint8Array): string | undefined {
  const model = new ModelDisk(before);
  for (const request of requests.flat()) apply(model, request, request.done);
  const at = model.firstDifference(actual);
  if (at === undefined) return undefined;
  const last = requests.flat().findLast(({ kind, offset, length }) => {
    return kind !== 'read' && at >= offset && at < offset + length;
  });
  const bytes = model.differences(actual);
  return `the origin is wrong in ${bytes} bytes, the first at ${at}, last written by ${JSON.stringify(last)}`;
}

/** What the image is judged over: the list in whole blocks, without what is invalid. */
export function judgedAreas(plan: Plan, invalid: readonly (readonly [number, number])[]): [number, number][] {
  const all = BlockList.extents([{ offset: 0, length: plan.size }]);
  const chosen = plan.list?.map(([offset, length]) => ({ offset, length }));
  const listed = (chosen === undefined ? all : BlockList.extents(chosen)).alignTo(plan.blockSize, plan.size);
  const bad = BlockList.extents(invalid.map(([offset, length]) => ({ offset, length })));
  return [...listed.subtract(bad)].map(({ offset, length }) => [offset, offset + length]);
}

/** When the point in time may have been, by one writer: after the first, before the second. */
type Span = [number, number];

/**
 * What is wrong with an image of the origin at one instant between `go` and
 * `started`, or undefined. What a writer had written then is a beginning of
 * what it ever wrote; and for all of them there is one instant.
 */
export function judgeImage(
  plan: Plan,
  before: Uint8Array,
  story: Story,
  image: Uint8Array,
  areas: readonly [number, number][],
): string | undefined {
  if (image.length !== plan.size) return `the image has ${image.length} bytes, the origin ${plan.size}`;
  const spans: Span[][] = [];
  for (let writer = 0; writer < plan.writers; writer++) {
    const own = areasOf(writer, plan.writers, plan.size).flatMap((area) => intersect(area, areas));
    const found = spansOf(before, story, story.requests[writer] ?? [], image, own);
    if (typeof found === 'string') return `writer ${writer}: ${found}`;
    spans.push(found);
  }
  // the latest beginning of a span is an instant of all, if there is any
  const common = spans
    .flat()
    .some(([from]) => spans.every((list) => list.some((span) => covers(span, from))));
  return common ? undefined : 'no instant fits the image for all writers';
}

function covers([from, to]: Span, time: number): boolean {
  return time >= from && time < to;
}

function spansOf(
  before: Uint8Array,
  { go, started }: Story,
  requests: readonly Told[],
  image: Uint8Array,
  own: readonly [number, number][],
): Span[] | string {
  const model = new ModelDisk(before);
  const changes = requests.filter(({ kind }) => kind !== 'read' && kind !== 'flush');
  const count = (from: number, to: number) =>
    own
      .flatMap((area) => intersect(area, [[from, to]]))
      .reduce((sum, [a, b]) => sum + model.differences(image, a, b), 0);
  const certain = changes.findIndex(({ ended }) => ended > go);
  const known = certain < 0 ? changes.length : certain;
  for (const request of changes.slice(0, known)) apply(model, request, request.done);

  const spans: Span[] = [];
  let wrong = count(0, image.length);
  const first = wrong;
  for (let next = known; ; next++) {
    const [last, following] = [changes[next - 1], changes[next]];
    if (wrong === 0)
      spans.push([Math.max(go, last?.begun ?? 0), Math.min(started, following?.ended ?? started)]);
    if (following === undefined || following.begun > started) break;
    const { offset, length } = following;
    wrong -= count(offset, offset + length);
    apply(model, following, following.done);
    wrong += count(offset, offset + length);
  }
  if (spans.length > 0) return spans;
  const at = own
    .map(([from, to]) => model.firstDifference(image, from, to))
    .find((byte) => byte !== undefined);
  return `the image is the origin at no instant of the start: ${first} bytes are wrong for its beginning, ${wrong} for its end, such as ${at}`;
}

function intersect([from, to]: readonly [number, number], areas: readonly (readonly [number, number])[]) {
  return areas
    .map(([a, b]): [number, number] => [Math.max(a, from), Math.min(b, to)])
    .filter(([a, b]) => a < b);
}
