/**
 * The names of nodes, and what they say: who stands in the line of a key, and who of them holds it.
 *
 *     /leasehold / order:7 / web-3%3A4121%3A…-1000000-1000000-0000000012
 *     root         key       owner            units   capacity arrival
 *
 * Everything that is needed to judge a line is in the names, so that one look at the children tells
 * it.
 */
import type { Claim } from '../core/store.ts';

export interface Place {
  readonly name: string;
  readonly owner: string;
  readonly units: number;
  readonly capacity: number;
  readonly arrival: number;
}

/** What stays as it is. */
const PLAIN = /^[\w:~-][\w:.~-]*$/;
const ARRIVAL = /-(-?\d{9,10})$/;
const NAME = /^(.*)-(\d+)-(\d+)-(-?\d{9,10})$/s;

/** Every text becomes a name that ZooKeeper allows, and each a different one. */
function toName(text: string): string {
  if (PLAIN.test(text)) return text;
  return encodeURIComponent(text).replaceAll('%3A', ':').replace(/^\./, '%2E');
}

/** The node of a key, whose children are its line. */
export function lineOf(root: string, key: string): string {
  return `${root}/${toName(key)}`;
}

/** What the server completes with a number to the name of a place in the line. */
export function entranceOf(line: string, { owner, units, capacity }: Claim): string {
  return `${line}/${toName(owner)}-${units}-${capacity}-`;
}

export function nameOf(path: string): string {
  return path.slice(path.lastIndexOf('/') + 1);
}

/** How many nodes were made in the line before this one. */
export function arrivalOf(path: string): number {
  return Number(ARRIVAL.exec(path)?.[1]);
}

/** The line in order of arrival. Nodes that others put there count for nothing. */
export function readLine(names: readonly string[]): Place[] {
  const places: Place[] = [];
  for (const name of names) {
    const parts = NAME.exec(name);
    if (!parts) continue;
    const [, owner = '', units, capacity, arrival] = parts;
    try {
      places.push({
        name,
        owner: decodeURIComponent(owner),
        units: Number(units),
        capacity: Number(capacity),
        arrival: Number(arrival),
      });
    } catch {}
  }
  // The server counts arrivals in 32 bits: the difference says who came first also where the count
  // turns over.
  return places.sort((a, b) => (a.arrival - b.arrival) | 0);
}

/**
 * How many places from the head hold the key. A place holds it when it and all before it fit into
 * the capacity: nobody passes, and what was held once is held until it leaves. A place of another
 * capacity blocks until it is refused and gone.
 */
export function countHolders(line: readonly Place[]): number {
  const capacity = line[0]?.capacity;
  let used = 0;
  let holders = 0;
  for (const place of line) {
    used += place.units;
    if (place.capacity !== capacity || used > capacity) break;
    holders += 1;
  }
  return holders;
}
