/**
 * A deterministic simulation of the consumer: processes that stall and are killed, engines behind a network that loses
 * requests and answers, and does what was given up all the same. The seed decides everything.
 *
 * The engines themselves are those of `leasehold/memory`, on the clock of a server. What a mutant breaks is in the
 * modules that are handed in.
 */

import type * as CoreModule from 'leasehold';
import type { LeaseStore } from 'leasehold';
import type * as ConsumerModule from 'leasehold/consumer';
import type {
  Consumer,
  ConsumerMetrics,
  DeadLetter,
  Delivery,
  Elision,
  MessageSource,
  Outbox,
  StateStore,
} from 'leasehold/consumer';
import type * as MemoryModule from 'leasehold/memory';
import { SeededRandom, SimulatedClock, Timeline } from 'leasehold/testing';

export interface Modules {
  readonly core: typeof CoreModule;
  readonly consumer: typeof ConsumerModule;
  readonly memory: typeof MemoryModule;
}

export interface Outcome {
  /** What went wrong, in words; empty when all is well. */
  readonly wrong: readonly string[];
  /** How often what happened, to see that schedules are not idle. */
  readonly counts: Readonly<Record<string, number>>;
}

/** How bad the network is, as shares of all calls. */
interface Weather {
  readonly lostRequest: number;
  readonly lostAnswer: number;
  /** Given up by its caller, and done later. */
  readonly late: number;
  readonly maxDelayMs: number;
}

const FINE: Weather = { lostRequest: 0, lostAnswer: 0, late: 0, maxDelayMs: 3 };
const REQUEST_TIMEOUT_MS = 60;
const LATE_MS = 400;
const FAULTS_FOR_MS = 6_000;
/** Long after the last fault, everything must have come to an end. */
const MAX_QUIET_MS = 600_000;
const WINDOW_MS = 3_600_000;
const START_MS = Date.UTC(2026, 0, 1);

type Kind = 'good' | 'flaky' | 'poison' | 'malformed' | 'no-id' | 'no-key' | 'no-time' | 'too-old';

interface Sent {
  readonly id: string;
  readonly key: string;
  readonly amount: number;
  readonly kind: Kind;
}

interface Body {
  readonly n: string;
  readonly key: string;
  readonly amount: number;
  readonly kind: Kind;
}

interface Books {
  sum: number;
  ids: string[];
}

/** A process: its clock, and what waits until it goes on. */
class Process {
  isDead = false;
  readonly clock: SimulatedClock;
  #isStalled = false;
  #waiting: (() => void)[] = [];

  constructor(timeline: Timeline) {
    const enter = (run: () => void): void => this.enter(run);
    this.clock = new SimulatedClock({ timeline, enter, wallMs: START_MS });
  }

  /** Runs something inside it: now, when it goes on, or never. */
  enter(run: () => void): void {
    if (this.isDead) return;
    if (this.#isStalled) this.#waiting.push(run);
    else run();
  }

  stall(): void {
    this.#isStalled = true;
  }

  goOn(): void {
    this.#isStalled = false;
    for (const run of this.#waiting.splice(0)) this.enter(run);
  }
}

class World {
  readonly random: SeededRandom;
  readonly timeline: Timeline;
  readonly serverClock: SimulatedClock;
  readonly queue: MemoryModule.MemoryQueue;
  readonly space: MemoryModule.MemorySpace;
  readonly state: StateStore;
  readonly outbox: Outbox | null;
  readonly modules: Modules;
  readonly sent: Sent[] = [];
  readonly replayed = new Set<string>();
  readonly handled = new Set<string>();
  readonly counts: Record<string, number> = {};
  readonly wrong: string[] = [];
  readonly workers: {
    readonly process: Process;
    readonly consumer: Consumer;
    readonly closeSource: () => void;
  }[] = [];
  readonly flakyFailures = new Map<string, number>();
  readonly settings: {
    readonly keepState: boolean;
    readonly isHandling: boolean;
    readonly waitMs: number;
    readonly ttlMs: number;
    /** Without the lock, where nobody has it, unless there is a time for which locks are kept. */
    readonly retainMs: number | undefined;
    readonly maxBatch: number;
    readonly prefetch: number;
    readonly keys: number;
    readonly maxAttempts: number;
  };
  weather: Weather;
  isHealed = false;

  constructor(modules: Modules, seed: number) {
    const random = new SeededRandom(seed);
    this.random = random;
    this.modules = modules;
    this.timeline = new Timeline(random.fork());
    this.serverClock = new SimulatedClock({ timeline: this.timeline, wallMs: START_MS });
    const clock = this.serverClock;
    const { MemoryQueue, MemorySpace, memoryOutbox, memoryState } = modules.memory;
    this.queue = new MemoryQueue({ clock });
    this.space = new MemorySpace({ clock });
    this.state = memoryState({ clock, windowMs: WINDOW_MS });
    this.outbox = random.chance(0.5) ? memoryOutbox({ clock }) : null;
    this.settings = {
      isHandling: random.chance(0.15),
      keepState: random.chance(0.5),
      waitMs: random.pick([20, 100, 400]),
      ttlMs: random.pick([200, 500, 1_000]),
      retainMs: random.pick([undefined, undefined, 0, 50, 1_000]),
      maxBatch: random.pick([1, 3, 50]),
      prefetch: random.pick([1, 5, 40]),
      keys: random.whole(1, 4),
      maxAttempts: random.pick([1, 2, 6]),
    };
    const badness = random.pick([0, 0.05, 0.2]);
    this.weather = { lostRequest: badness, lostAnswer: badness, late: badness / 2, maxDelayMs: 20 };
  }

  count(what: string): void {
    this.counts[what] = (this.counts[what] ?? 0) + 1;
  }

  after(delayMs: number, run: () => void): void {
    this.timeline.after(delayMs, run);
  }

  delayMs(): number {
    return this.random.between(0.1, this.weather.maxDelayMs);
  }

  /** One call of a process to a server. What was sent is done, even if its sender is dead by then. */
  remote<Answer>(process: Process, call: () => Promise<Answer>): Promise<Answer> {
    return new Promise((resolve, reject) => {
      if (process.isDead) return;
      const { lostRequest, lostAnswer, late } = this.weather;
      const lot = this.random.next();
      const isLost = lot < lostRequest;
      const isMute = !isLost && lot < lostRequest + lostAnswer;
      const isLate = !isLost && !isMute && lot < lostRequest + lostAnswer + late;
      const giveUp = (): void => process.enter(() => reject(new Error('no answer')));
      if (isLost || isMute || isLate) this.after(REQUEST_TIMEOUT_MS, giveUp);
      if (isLost) return this.count('lost request');
      const arrivesMs = isLate ? this.random.between(REQUEST_TIMEOUT_MS, LATE_MS) : this.delayMs();
      if (isMute) this.count('lost answer');
      if (isLate) this.count('done late');
      this.after(arrivesMs, () => {
        void call().then(
          (answer) => {
            if (isMute || isLate) return;
            this.after(this.delayMs(), () => process.enter(() => resolve(answer)));
          },
          (error) => this.after(this.delayMs(), () => process.enter(() => reject(error))),
        );
      });
    });
  }

  leaseStoreFor(process: Process): LeaseStore {
    const store = this.modules.memory.memory(this.space);
    return {
      name: 'simulated',
      guarantees: store.guarantees,
      open: (on) =>
        store.open((event) => this.after(this.delayMs(), () => process.enter(() => on(event)))),
      claim: (claim) => this.remote(process, () => store.claim(claim)),
      renew: (claims) => this.remote(process, () => store.renew(claims)),
      drop: (claim, again) => this.remote(process, () => store.drop(claim, again)),
      close: () => store.close(),
    };
  }

  stateFor(process: Process): StateStore {
    const { state } = this;
    const never = this.wrong;
    return {
      name: 'simulated',
      windowMs: state.windowMs,
      open: async () => {},
      peek: (key) => state.peek(key),
      load: (key, lease, messages) => {
        const { tokenText } = lease;
        const copies = messages.map(({ id, publishedAtMs, isReplay }) => ({
          id,
          publishedAtMs,
          isReplay,
        }));
        return this.remote(process, () => state.load(key, { tokenText }, copies));
      },
      commit: ({ lease, messages, ...commit }) => {
        if (messages.length === 0) never.push('a commit of nothing');
        const { tokenText } = lease;
        const copies = messages.map(({ id, publishedAtMs, isReplay }) => ({
          id,
          publishedAtMs,
          isReplay,
        }));
        const whole = { ...commit, lease: { tokenText }, messages: copies };
        return this.remote(process, async () => {
          const outcome = await state.commit(whole);
          this.count(outcome.is);
          return outcome;
        });
      },
      markDead: (key, messages) => this.remote(process, () => state.markDead(key, [...messages])),
      elision: () => this.elisionFor(process),
      close: async () => {},
    };
  }

  /** As on a server that has the locks as well as the states. */
  elisionFor(process: Process): Elision {
    const real = this.state.elision?.(this.modules.memory.memory(this.space));
    if (!real) throw new Error('the memory engines elide no locks');
    return {
      look: (key, lockName, messages) =>
        this.remote(process, () => real.look(key, lockName, [...messages])),
      commit: (commit) => {
        if (commit.messages.length === 0) this.wrong.push('a commit of nothing');
        const whole = { ...commit, messages: [...commit.messages] };
        return this.remote(process, async () => {
          const isTaken = this.space.isTaken(commit.lockName);
          const outcome = await real.commit(whole);
          if (isTaken && outcome.is === 'committed') this.wrong.push('committed under a lock');
          this.count(`elided: ${outcome.is}`);
          return outcome;
        });
      },
    };
  }

  /** Deliveries travel in order, and a process learns late that its connection is gone. */
  sourceFor(process: Process): { source: MessageSource; readonly closeSource: () => void } {
    const source = this.modules.memory.memorySource(this.queue, {
      prefetch: this.settings.prefetch,
    });
    const real = new Map<Delivery, Delivery>();
    let lastMs = 0;
    const inOrder = (run: () => void): void => {
      lastMs = Math.max(lastMs, this.timeline.nowMs + this.delayMs());
      this.after(lastMs - this.timeline.nowMs, () => process.enter(run));
    };
    const originals = (deliveries: readonly Delivery[]): Delivery[] =>
      deliveries.map((one) => real.get(one)).filter((one) => one !== undefined);
    return {
      closeSource: () => void source.close(),
      source: {
        name: 'simulated',
        open: (events) =>
          source.open({
            ...events,
            delivered: (delivery) => {
              let wasLive = true;
              const seen: Delivery = {
                envelope: delivery.envelope,
                isRedelivered: delivery.isRedelivered,
                isLive: () => {
                  const isLive = wasLive;
                  if (!delivery.isLive()) this.after(this.delayMs(), () => (wasLive = false));
                  return isLive;
                },
              };
              real.set(seen, delivery);
              inOrder(() => events.delivered(seen));
            },
          }),
        acknowledge: (deliveries) =>
          this.remote(process, () => source.acknowledge(originals(deliveries))),
        release: (deliveries) => this.remote(process, () => source.release(originals(deliveries))),
        republish: (envelopes, delayMs) =>
          this.remote(process, () => source.republish(envelopes, delayMs)),
        deadLetter: (envelopes, note) =>
          this.remote(process, () => source.deadLetter(envelopes, note)),
        stop: () => source.stop(),
        close: () => source.close(),
      },
    };
  }

  outboxFor(process: Process, outbox: Outbox): Outbox {
    return {
      name: 'simulated',
      open: async () => {},
      put: (envelopes, delayMs) => this.remote(process, () => outbox.put(envelopes, delayMs)),
      claim: (most, leaseMs) => this.remote(process, () => outbox.claim(most, leaseMs)),
      acknowledge: (deliveries) => this.remote(process, () => outbox.acknowledge(deliveries)),
      release: (deliveries) => this.remote(process, () => outbox.release(deliveries)),
      putBack: (deliveries, envelopes, delayMs) =>
        this.remote(process, () => outbox.putBack(deliveries, envelopes, delayMs)),
      depth: () => this.remote(process, () => outbox.depth()),
      close: async () => {},
    };
  }

  /** A reducer that changes the state in its hands, and may leave it half changed. */
  reduce(before: Books | null, bodies: readonly Body[]): Books {
    const books = before ?? { sum: 0, ids: [] };
    for (const { n, amount, kind } of bodies) {
      books.sum += amount;
      books.ids.push(n);
      this.throwIfBad(n, kind);
    }
    return books;
  }

  throwIfBad(id: string, kind: Kind): void {
    if (kind === 'poison' && !this.isHealed) throw new Error('poison');
    const failures = this.flakyFailures.get(id) ?? 0;
    if (kind === 'flaky' && failures < 2 && !this.isHealed) {
      this.flakyFailures.set(id, failures + 1);
      throw new Error('flaky');
    }
  }

  startWorker(): void {
    const { consume, outbox, republish, retry } = this.modules.consumer;
    const process = new Process(this.timeline);
    const { clock } = process;
    const random = this.random.fork();
    const chance = (): number => random.next();
    const locks = new this.modules.core.LockManager({
      store: this.leaseStoreFor(process),
      clock,
      random: chance,
      identity: `worker:${this.workers.length}:sim`,
    });
    const { source, closeSource } = this.sourceFor(process);
    const { isHandling, keepState, waitMs, ttlMs, retainMs, maxBatch } = this.settings;
    const { maxAttempts } = this.settings;
    const attempts = { delayMs: 100, maxAttempts, backoff: 'exponential' } as const;
    const shared = {
      source,
      locks,
      keyOf: ({ body }: { readonly body: Body }) => body.key,
      lockName: (key: string) => `lock of ${key}`,
      onBusy: this.outbox
        ? outbox(this.outboxFor(process, this.outbox), {
            ...attempts,
            leaseMs: 3_000,
            maxClaimed: 20,
          })
        : republish(attempts),
      onFailed: retry({ maxAttempts, delayMs: 50 }),
      waitMs,
      ttlMs,
      ...(retainMs === undefined ? {} : { retainMs }),
      maxBatch,
      clock,
      random: chance,
    };
    const consumer = isHandling
      ? consume<Body>({
          ...shared,
          handle: async (messages, lease) => {
            await new Promise<void>((resolve) => {
              clock.setTimer(resolve, random.whole(1, 30), true);
            });
            for (const { id, body } of messages) this.throwIfBad(id, body.kind);
            lease.assertHeld();
            for (const { id } of messages) this.handled.add(id);
          },
        })
      : consume<Body, Books>({
          ...shared,
          state: this.stateFor(process),
          keepState,
          reduce: (books, messages) =>
            this.reduce(
              books,
              messages.map(({ body }) => body),
            ),
        });
    this.workers.push({ process, consumer, closeSource });
  }

  send(kind: Kind): void {
    const number = this.sent.length;
    const id = `m${number}`;
    const key = `key-${this.random.whole(1, this.settings.keys)}`;
    const amount = this.random.whole(1, 1_000);
    const sent: Sent = { id, key, amount, kind };
    this.sent.push(sent);
    const copies = this.random.chance(0.2) ? 2 : 1;
    for (let copy = 0; copy < copies; copy += 1) {
      this.after(copy * this.random.between(0, 3_000), () => this.publish(sent));
    }
  }

  publish({ id, key, amount, kind }: Sent): void {
    const body = { n: id, key: kind === 'no-key' ? 7 : key, amount, kind };
    const publishedAtMs =
      kind === 'no-time'
        ? null
        : this.serverClock.wallMs() - (kind === 'too-old' ? 2 * WINDOW_MS : 0);
    void this.queue.publish({
      id: kind === 'no-id' ? null : id,
      content: kind === 'malformed' ? '{' : JSON.stringify(body),
      headers: { n: id },
      publishedAtMs,
    });
  }

  kill({ process, closeSource }: World['workers'][number]): void {
    this.count('killed');
    process.isDead = true;
    // The broker notices at once, or after a while.
    this.after(this.random.pick([0, 500]), closeSource);
  }

  /** Somebody else, who holds the lock of a key for too long. */
  async hold(key: string, forMs: number): Promise<void> {
    const { LockManager } = this.modules.core;
    const clock = this.serverClock;
    const store = this.modules.memory.memory(this.space);
    const locks = new LockManager({ store, clock, random: () => 0.5, identity: 'other:1:sim' });
    const lease = await locks.tryAcquire(`lock of ${key}`, { ttlMs: 60_000 });
    if (lease) this.count('held by another');
    this.after(forMs, () => void lease?.release().then(() => locks.close()));
  }

  schedule(): void {
    const { random } = this;
    const at = (run: () => void): void => this.after(random.between(0, FAULTS_FOR_MS), run);
    for (let n = random.whole(1, 3); n > 0; n -= 1) at(() => this.startWorker());
    const rare: readonly Kind[] = [
      'flaky',
      'poison',
      'malformed',
      'no-id',
      'no-key',
      'no-time',
      'too-old',
    ];
    const badShare = random.pick([0, 0.15]);
    for (let n = random.whole(10, 80); n > 0; n -= 1) {
      at(() => this.send(random.chance(badShare) ? random.pick(rare) : 'good'));
    }
    const alive = (): World['workers'] => this.workers.filter(({ process }) => !process.isDead);
    const some = (most: number, fault: () => void): void => {
      for (let n = random.whole(0, most); n > 0; n -= 1) at(fault);
    };
    some(3, () => {
      const [victim] = alive();
      if (!victim) return;
      this.kill(victim);
      this.after(random.between(0, 500), () => this.startWorker());
    });
    some(4, () => {
      const workers = alive();
      if (workers.length === 0) return;
      const { process } = random.pick(workers);
      this.count('stalled');
      process.stall();
      this.after(random.between(10, 2_500), () => process.goOn());
    });
    some(3, () => {
      this.count('cut');
      this.queue.cut();
    });
    some(
      4,
      () => void this.hold(`key-${random.whole(1, this.settings.keys)}`, random.between(10, 2_000)),
    );
    some(2, () => void this.replay(0.8));
    some(1, () => {
      const workers = alive();
      if (workers.length < 2) return;
      this.count('stopped');
      void random.pick(workers).consumer.stop({ graceMs: random.pick([0, 1_000]) });
    });
  }

  /** A person looks at the dead letters, and wants some of those again that may be applied now. */
  async replay(share: number): Promise<void> {
    await this.queue.deadLetters().replay(({ reason, envelope }) => {
      const mayBeApplied = ['failed', 'busy', 'dead-before'].includes(reason);
      const wants = mayBeApplied && this.random.chance(share);
      if (wants) this.replayed.add(String(envelope.id));
      if (wants) this.count('replayed');
      return wants;
    });
  }

  async isQuiet(): Promise<boolean> {
    const { ready, unsettled, delayed } = this.queue.depth;
    const waiting = (await this.outbox?.depth())?.entries ?? 0;
    return ready + unsettled + delayed + waiting === 0;
  }
}

/** Runs one schedule to its end, and judges what has come of it. */
export async function simulate(modules: Modules, seed: number): Promise<Outcome> {
  const world = new World(modules, seed);
  const { timeline } = world;
  const runFor = async (forMs: number): Promise<void> => {
    const untilMs = timeline.nowMs + forMs;
    while (await timeline.step(untilMs, () => timeline.touch())) {
      // Each moment settles before the next.
    }
  };
  world.schedule();
  await runFor(FAULTS_FOR_MS + 500);
  world.weather = FINE;
  world.startWorker();
  // Everybody goes on, and the claims of the dead are over, before anybody looks whether all is done.
  for (const { process } of world.workers) process.goOn();
  await runFor(5_000);
  const becomesQuiet = async (): Promise<void> => {
    const giveUpMs = timeline.nowMs + MAX_QUIET_MS;
    while (!(await world.isQuiet()) && timeline.nowMs < giveUpMs) await runFor(500);
    if (await world.isQuiet()) return;
    world.wrong.push(`not done: ${JSON.stringify(world.queue.depth)}`);
  };
  await becomesQuiet();
  await judgeMessages(world);
  // The handlers are mended, and everything that may be applied is replayed.
  world.isHealed = true;
  await world.replay(1);
  await becomesQuiet();
  for (const { consumer } of world.workers) void consumer.stop();
  await runFor(20_000);
  await judgeMessages(world);
  for (const { process, consumer } of world.workers) {
    const metrics = consumer.metrics();
    for (const name of ['busy', 'failed', 'kept', 'released', 'gone', 'duplicates'] as const) {
      world.counts[name] = (world.counts[name] ?? 0) + metrics[name];
    }
    if (!process.isDead) judgeMetrics(metrics, world.wrong);
  }
  return { wrong: world.wrong, counts: world.counts };
}

async function judgeMessages(world: World): Promise<void> {
  const { wrong } = world;
  const letters = await world.queue.deadLetters().list(1_000_000);
  const dead = new Map<string, DeadLetter>();
  for (const letter of letters) dead.set(String(letter.envelope.headers['n']), letter);
  const applied = new Map<string, number>();
  for (let key = 1; key <= world.settings.keys; key += 1) {
    const text = await world.state.peek(`key-${key}`);
    const books: Books = text === null ? { sum: 0, ids: [] } : JSON.parse(text);
    let expected = 0;
    for (const id of books.ids) {
      applied.set(id, (applied.get(id) ?? 0) + 1);
      expected += world.sent.find((sent) => sent.id === id)?.amount ?? Number.NaN;
    }
    if (books.sum !== expected) wrong.push(`key-${key}: ${books.sum} instead of ${expected}`);
  }
  for (const { id, kind } of world.sent) {
    const letter = dead.get(id);
    const times = world.settings.isHandling
      ? Number(world.handled.has(id))
      : (applied.get(id) ?? 0);
    if (times > 1) wrong.push(`${id} was applied ${times} times`);
    if (times === 0 && !letter) wrong.push(`${id} (${kind}) is lost`);
    const mayBeBoth = world.settings.isHandling || world.replayed.has(id);
    if (times > 0 && letter && !mayBeBoth) wrong.push(`${id} was applied, and dead-lettered`);
    const isRefused = kind !== 'good' && kind !== 'flaky' && kind !== 'poison';
    const isTimeless = world.settings.isHandling && (kind === 'no-time' || kind === 'too-old');
    if (isRefused && !isTimeless) {
      // A replay has a new time.
      if (times > 0 && !world.replayed.has(id)) wrong.push(`${id} (${kind}) was applied`);
      const reasons: readonly string[] = [
        kind,
        'dead-before',
        ...(kind === 'too-old' ? ['busy'] : []),
      ];
      if (letter && !reasons.includes(letter.reason)) {
        wrong.push(`${id} (${kind}) is dead as ${letter.reason}`);
      }
    }
    if (world.isHealed && times === 0 && world.replayed.has(id) && letter?.reason !== 'busy') {
      wrong.push(`${id} was replayed, and not applied`);
    }
    if (kind === 'good' && letter?.reason === 'failed') wrong.push(`${id} has never failed`);
    if (letter) world.count(`dead: ${letter.reason}`);
  }
}

/** Every delivery has ended in exactly one way. */
function judgeMetrics(m: ConsumerMetrics, wrong: string[]): void {
  const dead = Object.values(m.deadLettered).reduce((sum, count) => sum + count, 0);
  const ended =
    m.applied + m.duplicates + m.busyDeferred + m.failedDeferred + dead + m.released + m.gone;
  if (ended + m.inFlight !== m.delivered || m.inFlight !== 0) {
    wrong.push(`of ${m.delivered} deliveries ${ended} have ended, and ${m.inFlight} are in flight`);
  }
}
