/**
 * The order in which START freezes the file systems of several origins.
 * Freezing one writes, and cannot be interrupted: what it stands on (the file
 * system that holds the file under its loop device) is frozen after it. Where
 * this is not seen, the kernel driver lets go what it has frozen when the time
 * of START is over.
 */
import { type Host, thisHost } from '../host.js';
import { type OriginPlace, originDependence } from '../placement.js';

/**
 * The same members, those that stand on others before these; else in the order
 * given. Nothing stands on itself: what seems to go in a circle is only a guess.
 */
export async function freezeOrder<Member>(
  members: readonly Member[],
  place: (member: Member) => OriginPlace,
  host: Host = thisHost,
): Promise<Member[]> {
  const places = members.map(place);
  // only the kernel driver freezes
  if (places.filter(({ dev }) => dev !== 0).length < 2) return [...members];
  const facts = remembering(host);
  const above = await Promise.all(
    places.map(async (below) => {
      const standing = await Promise.all(
        places.map(async (other) => other !== below && (await originDependence(other, below, facts))),
      );
      return new Set(standing.flatMap((reason, i) => (reason ? [i] : [])));
    }),
  );
  const left = members.map((_, i) => i);
  const order: Member[] = [];
  while (left.length > 0) {
    const free = left.findIndex((one) => !left.some((other) => above[one]!.has(other)));
    const [next] = left.splice(Math.max(free, 0), 1);
    order.push(members[next!]!);
  }
  return order;
}

/** Each fact is asked for once: of 64 origins there are 4032 pairs. */
function remembering(host: Host): Host {
  const once = <Answer>(ask: (about: string) => Promise<Answer>) => {
    const known = new Map<string, Promise<Answer>>();
    return (about: string) => {
      const answer = known.get(about) ?? ask(about);
      known.set(about, answer);
      return answer;
    };
  };
  const mounts = once(() => host.mounts());
  return {
    ...host,
    mounts: () => mounts(''),
    mountOf: once((path) => host.mountOf(path)),
    blockDevice: once((number) => host.blockDevice(number)),
    btrfsDevices: once((number) => host.btrfsDevices(number)),
    identify: once((path) => host.identify(path)),
  };
}
