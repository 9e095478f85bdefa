/**
 * The lease store on ZooKeeper: a line of ephemeral, sequential nodes for each key, in order of arrival.
 *
 * Whoever stands so far ahead that all before it fit into the capacity holds the key; nobody has to write that down. The epoch is
 * the node's czxid, the number of the transaction that made it, which increases over the whole ensemble. The shape of
 * the line is that of the recipe in the ZooKeeper documentation ("Recipes and Solutions", locks).
 */
import type {
  Claim,
  ClaimId,
  ClaimOutcome,
  DropOutcome,
  Guarantees,
  LeaseStore,
  RenewOutcome,
  StoreEvent,
} from '../core/store.ts';
import { CODES, type Payload, WATCH_EVENTS, type WatchEvent } from './client.ts';
import { GUARANTEES } from './guarantees.ts';
import { countHolders, entranceOf, lineOf, nameOf, type Place, readLine } from './nodes.ts';
import type { Settings } from './options.ts';
import * as requests from './requests.ts';
import { codeOf, type Session, type SessionEvents } from './session.ts';
import { Sessions } from './sessions.ts';

type OnEvent = (event: StoreEvent) => void;

/** A waiter claims again after this share of its ttl, and leaves when it was silent for the whole of it. */
const HEARTBEAT_SHARE = 1 / 3;
/** A line that changes under our eyes is looked at again, so often in one call. */
const MAX_LOOKS = 8;
/** Nodes that are checked in one transaction, far below the servers' limit of a megabyte. */
const MAX_CHECKS = 256;
/** A lease that is still held after this time is told of newcomers: what is short has no need to pay for that. */
const LISTEN_AFTER_MS = 20;
/** A node that could not be removed is tried again after this time. */
const REMOVE_AGAIN_MS = 500;

/** A claim that has a node in its line, or may have. */
interface Entry {
  readonly claim: Claim;
  readonly line: Line;
  readonly session: Session;
  /** Null as long as no creation was answered. */
  path: string | null;
  epoch: bigint;
  isHeld: boolean;
  /** A creation was not answered: there may be a node. */
  isInDoubt: boolean;
  /** The creation that is under way. */
  entering: Promise<readonly string[]> | null;
  /** Whose change it waits for. */
  watched: string | null;
  /** What is watched is all that stands before it. */
  isNext: boolean;
  /** Without another call until then, it is not wanted any more. */
  expiresAtMs: number;
}

/** What is known of the line of a key in which this store stands. */
interface Line {
  readonly key: string;
  readonly path: string;
  readonly entries: Set<Entry>;
  /** Somebody else was seen waiting. */
  isWanted: boolean;
  /** The next change of the line is told to the holder here. */
  isListening: boolean;
  /** Nodes that were ever made in the line, at the last look, and those of this store since. */
  arrivals: number | null;
  ownArrivals: number;
}

export class ZooKeeperStore implements LeaseStore {
  readonly name: string = 'zookeeper';
  readonly guarantees: Guarantees = GUARANTEES;
  readonly #settings: Settings;
  readonly #entries = new Map<string, Entry>();
  /** By the path of their nodes. */
  readonly #lines = new Map<string, Line>();
  /** Who waits for a change of a node, by its path. */
  readonly #watchers = new Map<string, Set<Entry>>();
  readonly #unheard = new Set<Line>();
  #on: OnEvent = () => {};
  #sessions: Sessions | null = null;
  #expiryTimer: NodeJS.Timeout | undefined;
  #expiryAtMs = Infinity;
  #listenTimer: NodeJS.Timeout | undefined;

  constructor(settings: Settings) {
    this.#settings = settings;
  }

  async open(on: OnEvent): Promise<void> {
    if (this.#sessions !== null) throw new Error('the zookeeper store is open already');
    this.#on = on;
    this.#sessions = await Sessions.open(this.#settings, (session) => this.#eventsOf(session));
  }

  async claim(claim: Claim): Promise<ClaimOutcome> {
    const sessions = this.#opened();
    if (claim.units > claim.capacity) {
      return refused(
        'unsupported',
        `${claim.units} units are more than a capacity of ${claim.capacity}`,
      );
    }
    let entry = this.#entryOf(claim.owner);
    if (entry === undefined) {
      const session = await sessions.for(claim.ttlMs);
      if (typeof session === 'string') return refused('unsupported', session);
      // Another call for this owner may have come first.
      entry = this.#entryOf(claim.owner) ?? this.#newEntry(claim, session);
    }
    this.#keep(entry);
    await entry.session.connected();
    try {
      return await this.#claim(entry, claim.wait);
    } catch (error) {
      if (codeOf(error) !== CODES.noAuth) throw error;
      this.#forget(entry);
      const detail = `the identity of this store may not make nodes below ${this.#settings.root}; give it the right, or the option auth`;
      return refused('unsupported', detail);
    }
  }

  async renew(claims: readonly Claim[]): Promise<readonly RenewOutcome[]> {
    this.#opened();
    const outcomes: RenewOutcome[] = claims.map(() => ({ is: 'lost' }));
    const groups = new Map<Session, { at: number; entry: Entry }[]>();
    for (const [at, { owner }] of claims.entries()) {
      const entry = this.#entryOf(owner);
      if (!entry?.isHeld) continue;
      this.#keep(entry);
      const group = groups.get(entry.session);
      if (group) group.push({ at, entry });
      else groups.set(entry.session, [{ at, entry }]);
    }
    const renewals: Promise<void>[] = [];
    for (const group of groups.values()) {
      for (let from = 0; from < group.length; from += MAX_CHECKS) {
        const some = group.slice(from, from + MAX_CHECKS);
        const entries = some.map(({ entry }) => entry);
        const note = (answers: readonly RenewOutcome[]): void => {
          for (const [index, { at }] of some.entries())
            outcomes[at] = answers[index] as RenewOutcome;
        };
        const unknown = (cause: unknown): void => note(some.map(() => ({ is: 'unknown', cause })));
        renewals.push(this.#renew(entries).then(note, unknown));
      }
    }
    await Promise.all(renewals);
    return outcomes;
  }

  async drop(id: ClaimId, again?: Claim): Promise<DropOutcome> {
    const sessions = this.#opened();
    const entry = this.#entryOf(id.owner);
    await entry?.entering?.catch(() => {});
    if (entry === undefined || entry.path === null) return this.#dropUnknown(id, entry);
    if (entry.isHeld && again) {
      const session = await sessions.for(again.ttlMs);
      if (typeof session === 'string') {
        await this.#remove(entry);
        return { held: true, next: refused('unsupported', session) };
      }
      return this.#reenter(entry, this.#newEntry(again, session));
    }
    const held = entry.isHeld;
    await entry.session.connected();
    return { held: (await this.#remove(entry)) && held, next: null };
  }

  async close(): Promise<void> {
    const sessions = this.#sessions;
    this.#sessions = null;
    clearTimeout(this.#expiryTimer);
    clearTimeout(this.#listenTimer);
    this.#expiryAtMs = Infinity;
    const inUse = new Set([...this.#entries.values()].map(({ session }) => session));
    this.#entries.clear();
    this.#lines.clear();
    this.#watchers.clear();
    this.#unheard.clear();
    await sessions?.close((session) => inUse.has(session));
  }

  // --- Claiming ------------------------------------------------------------------------------------------------------

  async #claim(entry: Entry, wait: boolean): Promise<ClaimOutcome> {
    let names: readonly string[];
    if (entry.path === null) {
      entry.entering ??= this.#enter(entry).finally(() => {
        entry.entering = null;
      });
      names = await entry.entering;
    } else {
      const confirmed = entry.session.confirm();
      [, { children: names }] = await Promise.all([
        confirmed,
        this.#look(entry.session, entry.line),
      ]);
    }
    return this.#judge(entry, names, wait);
  }

  /** Stands in line, and answers who else does. After a lost answer it looks for its node first. */
  async #enter(entry: Entry): Promise<readonly string[]> {
    const { session, line, claim } = entry;
    if (entry.isInDoubt) {
      const found = await this.#findAgain(entry);
      if (found !== null) return found;
    }
    for (let attempt = 0; ; attempt += 1) {
      const entered = session.send(
        requests.enter(entranceOf(line.path, claim), this.#settings.auth),
      );
      // Sent together: a session sees its own writes.
      const looked = this.#look(session, line);
      looked.catch(() => {});
      try {
        const { data, stat } = await entered;
        entry.path = data.toString();
        entry.epoch = stat.czxid.readBigInt64BE();
        entry.isInDoubt = false;
        line.ownArrivals += 1;
      } catch (error) {
        const code = codeOf(error);
        entry.isInDoubt ||= code === undefined || code === CODES.connectionLoss;
        if (code !== CODES.noNode || attempt === MAX_LOOKS) throw error;
        await this.#makeLine(session, line, attempt > 0);
        continue;
      }
      return (await looked).children;
    }
  }

  /** The node of a creation whose answer was lost, if there is one. */
  async #findAgain(entry: Entry): Promise<readonly string[] | null> {
    const { session, line, claim } = entry;
    // The server of this connection may be behind the one that made the node.
    const synced = session.send(requests.sync(this.#settings.root));
    const [, names] = await Promise.all([synced, this.#namesOf(session, line)]);
    for (const place of readLine(names)) {
      if (place.owner !== claim.owner) continue;
      const path = `${line.path}/${place.name}`;
      const stat = await statOf(session, path);
      // A node of an earlier session is about to vanish, and not ours any more.
      if (stat === null || stat.ephemeralOwner.readBigUInt64BE() !== session.id) continue;
      entry.path = path;
      entry.epoch = stat.czxid.readBigInt64BE();
      entry.isInDoubt = false;
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

  async #judge(entry: Entry, first: readonly string[], wait: boolean): Promise<ClaimOutcome> {
    let names = first;
    for (let look = 0; look < MAX_LOOKS; look += 1) {
      const line = readLine(names);
      const place = this.#placeOf(entry, line);
      if (place === -1) {
        this.#forget(entry);
        throw new Error('the node of this claim is gone');
      }
      const [head] = line as [Place];
      if (head.capacity !== entry.claim.capacity) {
        await this.#remove(entry);
        return refused(
          'capacity-differs',
          `it is in use with a capacity of ${head.capacity}, not ${entry.claim.capacity}; use one limit, and one kind of lock, for one key`,
        );
      }
      const holders = countHolders(line);
      if (entry.isHeld || place < holders) return this.#granted(entry, line);
      if (!wait) {
        await this.#remove(entry);
        return { is: 'taken', holder: head.owner };
      }
      if (await this.#watch(entry, line, place, holders)) {
        return {
          is: 'waiting',
          lookAgainMs: entry.claim.ttlMs * HEARTBEAT_SHARE,
          ahead: place - holders,
          holder: head.owner,
          // Whoever was granted the key until now came before.
          epoch: entry.epoch - 1n,
        };
      }
      names = await this.#namesOf(entry.session, entry.line);
    }
    throw new Error('the line of this key changed at each look');
  }

  #granted(entry: Entry, line: readonly Place[]): ClaimOutcome {
    this.#hold(entry, line);
    const { claim, epoch } = entry;
    return { is: 'granted', claim, epoch, ttlMs: claim.ttlMs, wanted: entry.line.isWanted };
  }

  #hold(entry: Entry, line: readonly Place[]): void {
    const wasHeld = entry.isHeld;
    entry.isHeld = true;
    this.#unwatch(entry);
    if (this.#isWanted(line)) entry.line.isWanted = true;
    else this.#listenSoon(entry.line);
    // Who waits for a permit right behind a new holder is the first in line now, and nothing before it has left.
    const first = countHolders(line);
    const next = line[first];
    const isBehindUs = !wasHeld && this.#placeOf(entry, line) === first - 1;
    if (isBehindUs && next !== undefined && next.units < next.capacity) {
      entry.session.send(requests.touch(entry.path as string)).catch(() => {});
    }
  }

  // --- Watching ------------------------------------------------------------------------------------------------------

  /**
   * Waits for what can let it go on: a lock for its predecessor, a reader for the last writer before it, the first to wait for
   * a permit for any change of the line, and who stands behind it for its predecessor. False when that is gone already.
   */
  async #watch(
    entry: Entry,
    line: readonly Place[],
    place: number,
    holders: number,
  ): Promise<boolean> {
    const { claim, session } = entry;
    let target = place - 1;
    if (claim.units < claim.capacity) {
      const last = line.slice(0, place).findLastIndex(({ units, capacity }) => units === capacity);
      if (last !== -1) target = last;
      else if (place === holders) target = -1;
    }
    const before = line[target];
    const path = before === undefined ? entry.line.path : `${entry.line.path}/${before.name}`;
    entry.isNext = claim.units === claim.capacity && place === 1;
    if (entry.watched === path) return true;
    this.#unwatch(entry);
    entry.watched = path;
    const watchers = this.#watchers.get(path) ?? new Set();
    this.#watchers.set(path, watchers.add(entry));
    const request = before === undefined ? requests.children(path, true) : requests.watch(path);
    try {
      const answer = await session.send(request);
      // A line that has changed since the look will not tell of that change.
      if (before !== undefined || isSame(line, readLine(answer.children))) return true;
    } catch (error) {
      if (codeOf(error) !== CODES.noNode) {
        this.#unwatch(entry);
        throw error;
      }
    }
    this.#unwatch(entry);
    return false;
  }

  #unwatch(entry: Entry): void {
    if (entry.watched === null) return;
    const watchers = this.#watchers.get(entry.watched);
    watchers?.delete(entry);
    if (watchers?.size === 0) this.#watchers.delete(entry.watched);
    entry.watched = null;
  }

  #onWatch({ path, type }: WatchEvent): void {
    const watchers = this.#watchers.get(path);
    this.#watchers.delete(path);
    for (const entry of watchers ?? []) {
      entry.watched = null;
      if (entry.isHeld || entry.path === null) continue;
      if (entry.isNext && type === WATCH_EVENTS.deleted) this.#grantNow(entry);
      else this.#lookAgain(entry).catch(() => this.#on({ is: 'available', key: entry.claim.key }));
    }
    const line = this.#lines.get(path);
    if (line === undefined) return;
    line.isListening = false;
    this.#hear(line).catch(() => {});
  }

  /** The only one before it is gone: no look is needed to know that it is its turn. */
  #grantNow(entry: Entry): void {
    this.#unwatch(entry);
    entry.isHeld = true;
    // Who came after it is not known. To believe that somebody did costs one hand-over at the most; not to know it, the turns.
    entry.line.isWanted = true;
    this.#tellGrant(entry);
  }

  async #lookAgain(entry: Entry): Promise<void> {
    const names = await this.#namesOf(entry.session, entry.line);
    if (entry.isHeld || this.#entries.get(entry.claim.owner) !== entry) return;
    const outcome = await this.#judge(entry, names, true);
    if (outcome.is === 'granted') this.#tellGrant(entry);
    else if (outcome.is !== 'waiting') this.#on({ is: 'available', key: entry.claim.key });
  }

  #tellGrant({ claim: { key, owner }, epoch, line }: Entry): void {
    this.#on({ is: 'granted', key, owner, epoch, wanted: line.isWanted });
  }

  // --- Who else wants it ---------------------------------------------------------------------------------------------

  #listenSoon(line: Line): void {
    if (line.isListening) return;
    this.#unheard.add(line);
    this.#listenTimer ??= setTimeout(() => {
      this.#listenTimer = undefined;
      for (const one of this.#unheard) this.#hear(one, true).catch(() => {});
      this.#unheard.clear();
    }, LISTEN_AFTER_MS).unref();
  }

  /** Looks whether others want what is held here, and tells it. `listen`: otherwise, be told of the next change. */
  async #hear(line: Line, listen = false): Promise<void> {
    const holder = [...line.entries].find(({ isHeld }) => isHeld);
    if (holder === undefined) return;
    this.#heard(line, await this.#look(holder.session, line));
    if (line.isWanted || line.isListening) return;
    if (!listen) {
      this.#listenSoon(line);
      return;
    }
    line.isListening = true;
    try {
      this.#heard(line, await this.#look(holder.session, line, true));
    } catch (error) {
      line.isListening = false;
      throw error;
    }
  }

  #heard(line: Line, { children, stat }: Payload): void {
    // The count of changes is twice the count of arrivals, less those who are still there.
    const arrivals = (stat.cversion + stat.numChildren) / 2;
    const strangers = line.arrivals === null ? 0 : arrivals - line.arrivals - line.ownArrivals;
    line.arrivals = arrivals;
    line.ownArrivals = 0;
    const places = readLine(children);
    line.isWanted = this.#isWanted(places);
    const sharing = places.slice(0, countHolders(places));
    const strangersHere = sharing.filter(({ owner }) => !this.#entries.has(owner)).length;
    // Who came and went did not wait, but wanted it.
    if (line.isWanted || strangers > strangersHere) this.#on({ is: 'wanted', key: line.key });
  }

  /** Whether somebody who does not belong to this store waits. */
  #isWanted(line: readonly Place[]): boolean {
    return line.slice(countHolders(line)).some(({ owner }) => !this.#entries.has(owner));
  }

  // --- Renewing and leaving ------------------------------------------------------------------------------------------

  async #renew(entries: readonly Entry[]): Promise<RenewOutcome[]> {
    const [{ session }] = entries as [Entry];
    await session.connected();
    const checked = session.transact(requests.checkAll(entries.map(({ path }) => path as string)));
    const wanted = entries.filter(({ line }) => line.isWanted);
    // These may have given up; the others are told of newcomers.
    const heard = wanted.map(({ line }) => this.#hear(line).catch(() => {}));
    try {
      await checked;
      await Promise.all(heard);
      return entries.map(({ line }) => ({ is: 'held', wanted: line.isWanted }));
    } catch (error) {
      if (codeOf(error) !== CODES.noNode) throw error;
    }
    const confirmed = session.confirm();
    const stats = entries.map(({ path }) => statOf(session, path as string));
    const [found] = await Promise.all([Promise.all(stats), confirmed]);
    return entries.map((entry, index) => {
      const isOurs = found[index]?.ephemeralOwner.readBigUInt64BE() === session.id;
      if (isOurs) return { is: 'held', wanted: entry.line.isWanted };
      this.#forget(entry);
      return { is: 'lost' };
    });
  }

  /** Whether the node was still there. On an error it may be, and the entry stays. */
  async #remove(entry: Entry): Promise<boolean> {
    let wasThere = true;
    // Who leaves does not ask any more who else wants it.
    if (entry.line.entries.size === 1) this.#unheard.delete(entry.line);
    if (entry.path !== null) {
      wasThere = await unless(CODES.noNode, entry.session.send(requests.remove(entry.path)));
    }
    this.#forget(entry);
    return wasThere;
  }

  /** A claim whose node is not known here: a lost creation, or that of another store. */
  async #dropUnknown({ key, owner }: ClaimId, entry: Entry | undefined): Promise<DropOutcome> {
    const session = entry?.session ?? this.#opened().any();
    const path = lineOf(this.#settings.root, key);
    await session.connected();
    const synced = session.send(requests.sync(this.#settings.root));
    const [, names] = await Promise.all([synced, namesOf(session, path)]);
    const line = readLine(names);
    const holders = countHolders(line);
    let held = false;
    for (const [index, place] of line.entries()) {
      if (place.owner !== owner) continue;
      const removed = session.send(requests.remove(`${path}/${place.name}`));
      held = ((await unless(CODES.noNode, removed)) && index < holders) || held;
    }
    if (entry) this.#forget(entry);
    return { held, next: null };
  }

  async #reenter(from: Entry, to: Entry): Promise<DropOutcome> {
    const { session, line } = to;
    const entrance = entranceOf(line.path, to.claim);
    to.isInDoubt = true;
    const request = requests.reenter(from.path as string, entrance, this.#settings.auth);
    try {
      const { results } = await session.transact(request);
      to.path = results[1]?.path as string;
    } catch (error) {
      if (codeOf(error) !== CODES.noNode) throw error;
      this.#forget(from);
      this.#forget(to);
      return { held: false, next: null };
    }
    line.ownArrivals += 1;
    this.#forget(from);
    const stat = statOf(session, to.path);
    const [found, names] = await Promise.all([stat, this.#namesOf(session, line)]);
    if (found === null) throw new Error('the node of this claim is gone');
    to.epoch = found.czxid.readBigInt64BE();
    to.isInDoubt = false;
    return { held: true, next: await this.#judge(to, names, to.claim.wait) };
  }

  // --- Entries -------------------------------------------------------------------------------------------------------

  #newEntry(claim: Claim, session: Session): Entry {
    const path = lineOf(this.#settings.root, claim.key);
    let line = this.#lines.get(path);
    if (line === undefined) {
      const unknown = { isWanted: false, isListening: false, arrivals: null, ownArrivals: 0 };
      line = { key: claim.key, path, entries: new Set(), ...unknown };
      this.#lines.set(path, line);
    }
    const entry: Entry = {
      claim,
      line,
      session,
      path: null,
      epoch: 0n,
      isHeld: false,
      isInDoubt: false,
      entering: null,
      watched: null,
      isNext: false,
      expiresAtMs: Infinity,
    };
    line.entries.add(entry);
    this.#entries.set(claim.owner, entry);
    this.#keep(entry);
    return entry;
  }

  /** Of a session that is not over. */
  #entryOf(owner: string): Entry | undefined {
    const entry = this.#entries.get(owner);
    if (!entry?.session.isOver) return entry;
    this.#forget(entry);
    return undefined;
  }

  #forget(entry: Entry): void {
    this.#unwatch(entry);
    const { line, claim } = entry;
    if (this.#entries.get(claim.owner) === entry) this.#entries.delete(claim.owner);
    line.entries.delete(entry);
    if (line.entries.size > 0) return;
    if (this.#lines.get(line.path) === line) this.#lines.delete(line.path);
    this.#unheard.delete(line);
  }

  /** As long as the process calls, the session keeps the node; a claim that falls silent is removed here. */
  #keep(entry: Entry): void {
    entry.expiresAtMs = performance.now() + entry.claim.ttlMs;
    this.#expireAt(entry.expiresAtMs);
  }

  #expireAt(atMs: number): void {
    if (atMs >= this.#expiryAtMs) return;
    clearTimeout(this.#expiryTimer);
    this.#expiryAtMs = atMs;
    const delayMs = Math.max(0, atMs - performance.now()) + 1;
    this.#expiryTimer = setTimeout(() => this.#expire(), delayMs).unref();
  }

  #expire(): void {
    this.#expiryAtMs = Infinity;
    const nowMs = performance.now();
    let nextMs = Infinity;
    for (const entry of [...this.#entries.values()]) {
      if (entry.expiresAtMs <= nowMs) {
        // Tried again until it is answered, or the session ends.
        entry.expiresAtMs = nowMs + REMOVE_AGAIN_MS;
        const { key, owner } = entry.claim;
        this.drop({ key, owner }).catch(() => {});
      }
      nextMs = Math.min(nextMs, entry.expiresAtMs);
    }
    if (nextMs < Infinity) this.#expireAt(nextMs);
  }

  // --- Sessions ------------------------------------------------------------------------------------------------------

  #eventsOf(sessionOf: () => Session): SessionEvents {
    return {
      reconnected: () => {
        for (const entry of this.#entries.values()) {
          if (entry.session !== sessionOf()) continue;
          this.#unwatch(entry);
          entry.line.isListening = false;
          if (entry.isHeld) this.#listenSoon(entry.line);
        }
        this.#on({ is: 'reset' });
      },
      expired: () => {
        for (const entry of [...this.#entries.values()]) {
          if (entry.session !== sessionOf()) continue;
          this.#forget(entry);
          const { key, owner } = entry.claim;
          if (entry.isHeld) this.#on({ is: 'lost', key, owner });
        }
        // Who waits stands in line again, at its end.
        this.#on({ is: 'reset' });
      },
      watched: (event) => this.#onWatch(event),
    };
  }

  #look(session: Session, line: Line, isWatched = false): Promise<Payload> {
    return session.send(requests.children(line.path, isWatched));
  }

  #namesOf(session: Session, line: Line): Promise<readonly string[]> {
    return namesOf(session, line.path);
  }

  #placeOf(entry: Entry, line: readonly Place[]): number {
    const name = nameOf(entry.path as string);
    return line.findIndex((place) => place.name === name);
  }

  #opened(): Sessions {
    if (this.#sessions === null) throw new Error('the zookeeper store is not open');
    return this.#sessions;
  }
}

function refused(reason: 'capacity-differs' | 'unsupported', detail: string): ClaimOutcome {
  return { is: 'refused', reason, detail };
}

/** Arrivals count up: as many places with the same last one are the same places. */
function isSame(line: readonly Place[], other: readonly Place[]): boolean {
  return line.length === other.length && line.at(-1)?.name === other.at(-1)?.name;
}

/** Nobody, when there is no such line. */
async function namesOf(session: Session, path: string): Promise<readonly string[]> {
  try {
    return (await session.send(requests.children(path))).children;
  } catch (error) {
    if (codeOf(error) === CODES.noNode) return [];
    throw error;
  }
}

async function statOf(session: Session, path: string): Promise<Payload['stat'] | null> {
  try {
    return (await session.send(requests.exists(path))).stat;
  } catch (error) {
    if (codeOf(error) === CODES.noNode) return null;
    throw error;
  }
}

/** False when the answer was that error. */
async function unless(code: number, answer: Promise<unknown>): Promise<boolean> {
  try {
    await answer;
    return true;
  } catch (error) {
    if (codeOf(error) === code) return false;
    throw error;
  }
}
