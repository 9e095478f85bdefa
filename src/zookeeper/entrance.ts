/**
 * How a claim gets its node at the end of the line: once, whatever becomes of requests and answers.
 */
import { namesOf, statOf, unless } from './answers.ts';
import { CODES } from './client.ts';
import { Departures } from './departures.ts';
import type { Entry, Line } from './entries.ts';
import { arrivalOf, entranceOf, readLine } from './nodes.ts';
import type { Settings } from './options.ts';
import type { Stat } from './requests.ts';
import * as requests from './requests.ts';
import { codeOf, type Session } from './session.ts';

/** The node of a line, and the root, are made so often in one call. */
const MAX_ATTEMPTS = 8;
/**
 * Transactions are numbered by the elections of a leader, 2^32 to each. A token of this one still
 * has 20 digits.
 */
const MAX_EPOCH = 10n ** 20n / 4_096n - 1n;

export class Entrance {
  readonly #settings: Settings;
  readonly #departures = new Departures();

  constructor(settings: Settings) {
    this.#settings = settings;
  }

  /**
   * Stands in line, and answers who else does; null when it is known to be the first without a
   * look. After a lost answer it looks for its node before it makes another.
   */
  enter(entry: Entry): Promise<readonly string[] | null> {
    entry.entering ??= this.#enter(entry).finally(() => {
      entry.entering = null;
    });
    return entry.entering;
  }

  /**
   * Gives the node of one claim up, and makes that of another, in one transaction. False when the
   * first one was gone already; then there is neither.
   */
  async reenter(from: Entry, to: Entry): Promise<boolean> {
    const { session, line, claim } = to;
    to.isInDoubt = true;
    const entrance = entranceOf(line.path, claim);
    const request = requests.reenter(from.path as string, entrance, this.#settings.auth);
    try {
      const [, made] = await session.transact(request);
      if (made?.path === undefined)
        throw new Error('ZooKeeper has not named the node that it made');
      to.path = made.path;
    } catch (error) {
      if (codeOf(error) !== CODES.noNode) throw error;
      return false;
    }
    line.ownArrivals += 1;
    return true;
  }

  /** Who stands in the line that was entered again. A transaction does not tell the czxid. */
  async reentered(entry: Entry): Promise<readonly string[]> {
    const { session, line } = entry;
    const path = entry.path as string;
    const asked = [statOf(session, path), namesOf(session, line.path)] as const;
    const [stat, names] = await Promise.all(asked);
    if (stat === null) throw new Error('the node of this claim is gone');
    isMade(entry, path, stat);
    return names;
  }

  /** Its node is gone. */
  left({ isFirst, path, line, arrival, epoch, wasKnown }: Entry): void {
    if (isFirst && path !== null) this.#departures.note(line.path, { arrival, epoch, wasKnown });
  }

  async #enter(entry: Entry): Promise<readonly string[] | null> {
    if (entry.isInDoubt) {
      const found = await this.#findAgain(entry);
      if (found !== null) return found;
    }
    const { session, line, claim } = entry;
    const entrance = entranceOf(line.path, claim);
    for (let attempt = 1; ; attempt += 1) {
      const entered = session.send(requests.enter(entrance, this.#settings.auth));
      const isQuiet = this.#departures.isQuiet(line.path);
      // Sent together: a session sees its own writes.
      const looked = isQuiet ? null : namesOf(session, line.path);
      looked?.catch(() => {});
      try {
        const { path, stat } = await entered;
        this.#entered(entry, path, stat);
      } catch (error) {
        const code = codeOf(error);
        entry.isInDoubt ||= code === undefined || code === CODES.connectionLoss;
        if (code !== CODES.noNode || attempt > MAX_ATTEMPTS) throw error;
        await this.#makeLine(session, line, attempt > 1);
        continue;
      }
      if (entry.wasKnown) return null;
      return looked ?? namesOf(session, line.path);
    }
  }

  #entered(entry: Entry, path: string, stat: Stat): void {
    const { line } = entry;
    isMade(entry, path, stat);
    entry.wasKnown = this.#departures.isFirst(line.path, entry);
    entry.isFirst = entry.wasKnown;
    line.arrivals ??= entry.arrival;
    line.ownArrivals += 1;
  }

  /** The node of a creation whose answer was lost, if there is one. */
  async #findAgain(entry: Entry): Promise<readonly string[] | null> {
    const { session, line, claim } = entry;
    // The server of this connection may be behind the one that made the node.
    const synced = session.send(requests.sync(this.#settings.root));
    const [, names] = await Promise.all([synced, namesOf(session, line.path)]);
    for (const place of readLine(names)) {
      if (place.owner !== claim.owner) continue;
      const path = `${line.path}/${place.name}`;
      const stat = await statOf(session, path);
      // A node of an earlier session is about to vanish, and not ours any more.
      if (stat === null || stat.ephemeralOwner !== session.id) continue;
      isMade(entry, path, stat);
      await session.confirm();
      return names;
    }
    return null;
  }

  async #makeLine(session: Session, line: Line, andRoot: boolean): Promise<void> {
    const { root, auth } = this.#settings;
    if (andRoot) {
      const parts = root.split('/').slice(1);
      for (const [index] of parts.entries()) {
        const path = `/${parts.slice(0, index + 1).join('/')}`;
        await unless(CODES.nodeExists, session.send(requests.persistent(path, auth)));
      }
    }
    try {
      await unless(CODES.nodeExists, session.send(requests.container(line.path, auth)));
    } catch (error) {
      // The root is missing as well: the next attempt makes it.
      if (codeOf(error) !== CODES.noNode) throw error;
    }
  }
}

/** The node of the claim is known. Throws for one that no server of ZooKeeper makes. */
function isMade(entry: Entry, path: string, { czxid }: Stat): void {
  const arrival = arrivalOf(path);
  if (Number.isNaN(arrival) || czxid < 1n || czxid > MAX_EPOCH) {
    throw new Error('ZooKeeper has made a node that cannot be');
  }
  entry.path = path;
  entry.arrival = arrival;
  entry.epoch = czxid;
  entry.isInDoubt = false;
}
