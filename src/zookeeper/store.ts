/**
 * The lease store on ZooKeeper: a line of ephemeral, sequential nodes for each key, in order of
 * arrival.
 *
 * Whoever stands so far ahead that all before it fit into the capacity holds the key; nobody has to
 * write that down. The epoch is the node's czxid, the number of the transaction that made it, which
 * increases over the whole ensemble. The shape of the line is that of the recipe in the ZooKeeper
 * documentation ("Recipes and Solutions", locks).
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
import { namesOf, statOf, unless } from './answers.ts';
import { CODES, WATCH_EVENTS, type WatchEvent } from './client.ts';
import { Entrance } from './entrance.ts';
import { Entries, type Entry } from './entries.ts';
import { GUARANTEES } from './guarantees.ts';
import { countHolders, lineOf, nameOf, type Place, readLine } from './nodes.ts';
import type { Settings } from './options.ts';
import { Others } from './others.ts';
import * as requests from './requests.ts';
import { codeOf, type Session, type SessionEvents } from './session.ts';
import { Sessions } from './sessions.ts';
import { Watches } from './watches.ts';

type OnEvent = (event: StoreEvent) => void;

/** A waiter claims again after this share of its ttl; silent for all of it, it leaves. */
const HEARTBEAT_SHARE = 1 / 3;
/** A line that changes under our eyes is looked at again, so often in one call. */
const MAX_LOOKS = 8;
/** Nodes that are checked in one transaction, far below the servers' limit of a megabyte. */
const MAX_CHECKS = 256;

export class ZooKeeperStore implements LeaseStore {
  readonly name: string = 'zookeeper';
  readonly guarantees: Guarantees = GUARANTEES;
  readonly #settings: Settings;
  readonly #entries: Entries;
  readonly #entrance: Entrance;
  readonly #watches = new Watches();
  readonly #others: Others;
  #on: OnEvent = () => {};
  #sessions: Sessions | null = null;

  constructor(settings: Settings) {
    this.#settings = settings;
    this.#entries = new Entries(settings.root, ({ claim }) => {
      this.drop(claim).catch(() => {});
    });
    this.#entrance = new Entrance(settings);
    this.#others = new Others(this.#entries, (event) => this.#on(event));
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
      const session = sessions.ready(claim.ttlMs) ?? (await sessions.for(claim.ttlMs));
      if (typeof session === 'string') return refused('unsupported', session);
      // Another call for this owner may have come first.
      entry = this.#entryOf(claim.owner) ?? this.#entries.add(claim, session);
    }
    this.#entries.keep(entry);
    if (!entry.session.isConnected) await entry.session.connected();
    while (entry.leaving) await entry.leaving.catch(() => {});
    // It was given up meanwhile.
    if (this.#entryOf(claim.owner) !== entry) return this.claim(claim);
    if (!sessions.outlives(entry.session, entry.claim.ttlMs)) {
      // It stands in line again, at its end, on a session that is long enough, or learns that there
      // is none.
      await this.drop(claim);
      return this.claim(claim);
    }
    try {
      return await this.#claim(entry, claim.wait);
    } catch (error) {
      if (codeOf(error) !== CODES.noAuth) throw error;
      this.#forget(entry);
      const detail =
        `the identity of this store may not make nodes below ${this.#settings.root}; ` +
        'give it the right, or the option auth';
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
      this.#entries.keep(entry);
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
    if (entry === undefined) return this.#dropUnknown(id);
    while (entry.entering) await entry.entering.catch(() => {});
    if (entry.path === null) {
      entry.leaving ??= this.#dropUnknown(id, entry).finally(() => {
        entry.leaving = null;
      });
      return entry.leaving;
    }
    if (entry.isHeld && again) {
      const session = await sessions.for(again.ttlMs);
      if (typeof session === 'string') {
        await this.#remove(entry);
        return { held: true, next: refused('unsupported', session) };
      }
      return this.#reenter(entry, this.#entries.add(again, session));
    }
    const held = entry.isHeld;
    if (!entry.session.isConnected) await entry.session.connected();
    return { held: (await this.#remove(entry)) && held, next: null };
  }

  async close(): Promise<void> {
    const sessions = this.#sessions;
    this.#sessions = null;
    const inUse = new Set(this.#entries.all().map(({ session }) => session));
    this.#entries.clear();
    this.#watches.clear();
    this.#others.clear();
    await sessions?.close((session) => inUse.has(session));
  }

  // --- Claiming ----------------------------------------------------------------------------------

  async #claim(entry: Entry, wait: boolean): Promise<ClaimOutcome> {
    if (entry.path === null) {
      const found = await this.#entrance.enter(entry);
      return found === null ? this.#grantFirst(entry) : this.#judge(entry, found, wait);
    }
    const { session, line } = entry;
    const [names] = await Promise.all([namesOf(session, line.path), session.confirm()]);
    if (this.#placeOf(entry, readLine(names)) === -1) {
      // It was silent for longer than its ttl, and was removed meanwhile: it stands in line again,
      // at its end.
      this.#forget(entry);
      return this.claim({ ...entry.claim, wait });
    }
    return this.#judge(entry, names, wait);
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
          `it is in use with a capacity of ${head.capacity}, not ${entry.claim.capacity}; ` +
            'use one limit, and one kind of lock, for one key',
        );
      }
      const holders = countHolders(line);
      entry.isFirst ||= place === 0;
      if (entry.isHeld || place < holders) return this.#granted(entry, line);
      if (!wait) {
        await this.#remove(entry);
        return { is: 'taken', holder: head.owner };
      }
      if (await this.#watches.set(entry, line, { place, holders })) {
        return {
          is: 'waiting',
          lookAgainMs: entry.claim.ttlMs * HEARTBEAT_SHARE,
          ahead: place - holders,
          holder: head.owner,
          // Whoever was granted the key until now came before.
          epoch: entry.epoch - 1n,
        };
      }
      names = await namesOf(entry.session, entry.line.path);
    }
    throw new Error('the line of this key changed at each look');
  }

  #granted(entry: Entry, line: readonly Place[]): ClaimOutcome {
    this.#hold(entry, line);
    return grantOf(entry);
  }

  /** Nobody stands before it; whether somebody came after it is heard in time. */
  #grantFirst(entry: Entry): ClaimOutcome {
    entry.isHeld = true;
    this.#others.listenSoon(entry.line);
    return grantOf(entry);
  }

  #hold(entry: Entry, line: readonly Place[]): void {
    const wasHeld = entry.isHeld;
    entry.isHeld = true;
    this.#watches.end(entry);
    if (this.#others.areWaiting(line)) entry.line.isWanted = true;
    else this.#others.listenSoon(entry.line);
    // Who waits for a permit right behind a new holder is the first in line now, and nothing before
    // it has left.
    const first = countHolders(line);
    const next = line[first];
    const isBehindUs = !wasHeld && this.#placeOf(entry, line) === first - 1;
    if (isBehindUs && next !== undefined && next.units < next.capacity) {
      entry.session.send(requests.touch(entry.path as string)).catch(() => {});
    }
  }

  // --- Being told --------------------------------------------------------------------------------

  #onWatch({ path, type }: WatchEvent): void {
    for (const entry of this.#watches.fired(path)) {
      if (entry.isHeld || entry.path === null) continue;
      if (entry.isNext && type === WATCH_EVENTS.deleted) this.#grantNow(entry);
      else this.#lookAgain(entry).catch(() => this.#on({ is: 'available', key: entry.claim.key }));
    }
    const line = this.#entries.line(path);
    if (line === undefined) return;
    line.isListening = false;
    this.#others.look(line).catch(() => {});
  }

  /** The only one before it is gone: no look is needed to know that it is its turn. */
  #grantNow(entry: Entry): void {
    this.#watches.end(entry);
    entry.isHeld = true;
    entry.isFirst = true;
    // Who came after it is not known. To believe that somebody did costs one hand-over at the most;
    // not to know it, the turns.
    entry.line.isWanted = true;
    this.#tellGrant(entry);
  }

  async #lookAgain(entry: Entry): Promise<void> {
    const names = await namesOf(entry.session, entry.line.path);
    if (entry.isHeld || this.#entries.get(entry.claim.owner) !== entry) return;
    const outcome = await this.#judge(entry, names, true);
    if (outcome.is === 'granted') this.#tellGrant(entry);
    else if (outcome.is !== 'waiting') this.#on({ is: 'available', key: entry.claim.key });
  }

  #tellGrant({ claim: { key, owner }, epoch, line }: Entry): void {
    this.#on({ is: 'granted', key, owner, epoch, wanted: line.isWanted });
  }

  // --- Renewing and leaving ----------------------------------------------------------------------

  async #renew(entries: readonly Entry[]): Promise<RenewOutcome[]> {
    const [{ session }] = entries as [Entry];
    await session.connected();
    const checked = session.transact(requests.checkAll(entries.map(({ path }) => path as string)));
    const wanted = entries.filter(({ line }) => line.isWanted);
    // These may have given up; the others are told of newcomers.
    const heard = wanted.map(({ line }) => this.#others.look(line).catch(() => {}));
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
      const isOurs = found[index]?.ephemeralOwner === session.id;
      if (isOurs) return { is: 'held', wanted: entry.line.isWanted };
      this.#forget(entry);
      return { is: 'lost' };
    });
  }

  /** Whether the node was still there. On an error it may be, and the entry stays. */
  async #remove(entry: Entry): Promise<boolean> {
    let wasThere = true;
    // Who leaves does not ask any more who else wants it.
    if (entry.line.entries.size === 1) this.#others.forget(entry.line);
    if (entry.path !== null) {
      wasThere = await unless(CODES.noNode, entry.session.send(requests.remove(entry.path)));
    }
    if (wasThere) this.#entrance.left(entry);
    this.#forget(entry);
    return wasThere;
  }

  /** A claim whose node is not known here: a lost creation, or that of another store. */
  async #dropUnknown({ key, owner }: ClaimId, entry?: Entry): Promise<DropOutcome> {
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
    const wasHeld = await this.#entrance.reenter(from, to);
    this.#forget(from);
    if (!wasHeld) {
      this.#forget(to);
      return { held: false, next: null };
    }
    const names = await this.#entrance.reentered(to);
    return { held: true, next: await this.#judge(to, names, to.claim.wait) };
  }

  // --- Entries and sessions ----------------------------------------------------------------------

  /** Of a session that is not over. */
  #entryOf(owner: string): Entry | undefined {
    const entry = this.#entries.get(owner);
    if (!entry?.session.isOver) return entry;
    this.#forget(entry);
    return undefined;
  }

  #forget(entry: Entry): void {
    this.#watches.end(entry);
    this.#entries.remove(entry);
    if (entry.line.entries.size === 0) this.#others.forget(entry.line);
  }

  #eventsOf(sessionOf: () => Session): SessionEvents {
    return {
      reconnected: () => {
        for (const entry of this.#entries.all()) {
          if (entry.session !== sessionOf()) continue;
          this.#watches.end(entry);
          entry.line.isListening = false;
          if (!entry.isHeld) continue;
          const { key, owner, ttlMs } = entry.claim;
          // This server may grant less than the last one did.
          if (this.#sessions?.outlives(entry.session, ttlMs)) this.#others.listenSoon(entry.line);
          else this.#on({ is: 'lost', key, owner });
        }
        this.#on({ is: 'reset' });
      },
      expired: () => {
        for (const entry of this.#entries.all()) {
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

function grantOf({ claim, epoch, line }: Entry): ClaimOutcome {
  return { is: 'granted', claim, epoch, ttlMs: claim.ttlMs, wanted: line.isWanted };
}
