/**
 * The scripts against the machine that they mirror: random claims, renewals and drops are made on a real server and on
 * `core/key-state.ts`, and every answer, every message and what is left in the end must agree.
 */
import fc from 'fast-check';
import type { Redis } from 'ioredis';
import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest';
import {
  claimKey,
  dropKey,
  emptyKeyState,
  isEmpty,
  type KeyState,
  renewKey,
  type StepContext,
} from '../../dist/src/core/key-state.js';
import type {
  Claim,
  ClaimOutcome,
  DropOutcome,
  RenewOutcome,
  StoreEvent,
} from '../../dist/src/core/store.js';
import { readClaim, readDrop, readMessage, readRenew } from '../../dist/src/redis/answers.js';
import { STEP } from '../../dist/src/redis/scripts/step.js';
import { RedisServer } from '../servers/redis.ts';
import { lane, TOOLS } from '../servers/require.ts';

const KEY = 'k';
const HOUR_MS = 3_600_000;
/** A share of the long one is more than the short one, so that each decides when somebody looks again. */
const [SHORT_MS, LONG_MS] = [3 * HOUR_MS, 30 * HOUR_MS];
const PROCESSES = ['a', 'b', 'c'];

interface Step {
  readonly do: 'claim' | 'renew' | 'drop' | 'again' | 'expire' | 'silence' | 'deafen' | 'hear';
  /** By whoever holds the key or, to fall silent, waits first. */
  readonly isFirst: boolean;
  readonly process: number;
  readonly owner: number;
  readonly kind: number;
  readonly wait: boolean;
}

const OFTEN = ['claim', 'claim', 'claim', 'drop', 'drop', 'again'] as const;

function stepsOf(
  does: readonly Step['do'][],
  parts: Partial<{ [Part in keyof Step]: Step[Part][] }>,
) {
  return fc.array(
    fc.record<Step>({
      do: fc.constantFrom(...OFTEN, ...does),
      isFirst: fc.constantFrom(...(parts.isFirst ?? [true, false])),
      process: fc.nat({ max: PROCESSES.length - 1 }),
      owner: fc.constantFrom(...(parts.owner ?? [0, 1, 2])),
      kind: fc.constantFrom(...(parts.kind ?? [0, 1, 2, 3])),
      wait: fc.constantFrom(...(parts.wait ?? [true, false])),
    }),
    { minLength: 1, maxLength: 40, size: 'max' },
  );
}

const steps = stepsOf(['renew', 'expire', 'silence', 'deafen', 'hear'], {});
/** What two or three processes do with one mutex, and seldom something else. */
const turns = stepsOf(['again', 'silence', 'deafen', 'hear', 'hear', 'hear'], {
  isFirst: [true],
  owner: [0, 1],
  kind: [0, 0, 0, 0, 0, 1, 2, 3],
  wait: [true, true, true, false],
});

/** Mostly of one capacity, so that the queue fills: mutexes and readers, permits, and everything at once. */
const KINDS = [
  ['6/6', '1/6', '1/6', '2/6'],
  ['1/2', '1/2', '1/2', '1/2'],
  ['6/6', '1/6', '1/2', '1/1'],
] as const;
const MUTEX = ['6/6', '1/6', '1/2', '6/12'];

/** An owner keeps its ttl. */
function ttlOf(owner: string): number {
  const sum = Buffer.from(owner).reduce((total, byte) => total + byte, 0);
  return sum % 2 === 0 ? SHORT_MS : LONG_MS;
}

/** The milliseconds that a run takes decide nothing. */
const hours = (ms: number): number => Math.round(ms / HOUR_MS);

/** What a process was told, without the epoch, which differs between the two. */
interface Told {
  readonly text: string;
  readonly epoch: bigint | null;
}

/** The same epoch, in the machine and on the server. */
interface Epoch {
  readonly machine: bigint;
  readonly server: bigint;
}

/** Epochs are others on the server, but in the same order, whenever a process learns of them. */
class Epochs {
  readonly #granted = new Map<bigint, bigint>();
  readonly #waited: Epoch[] = [];

  granted(grants: readonly Epoch[]): void {
    for (const { machine, server } of grants) {
      for (const [other, known] of this.#granted) {
        expect(order(server, known)).toBe(order(machine, other));
      }
      for (const wait of this.#waited) this.#compare({ machine, server }, wait);
      this.#granted.set(machine, server);
    }
  }

  waited(wait: Epoch): void {
    for (const [machine, server] of this.#granted) this.#compare({ machine, server }, wait);
    this.#waited.push(wait);
  }

  /** It says how far the key had come: grants before it are not above, and those after it are. */
  #compare(grant: Epoch, wait: Epoch): void {
    expect(grant.server > wait.server).toBe(grant.machine > wait.machine);
  }
}

const order = (a: bigint, b: bigint): number => (a < b ? -1 : Number(a > b));

const channelOf = (process: string): string => `leasehold:p:${process}`;
const names = [
  'leasehold:epoch',
  `lock:${KEY}`,
  `leasehold:m:lock:${KEY}`,
  `leasehold:o:lock:${KEY}`,
];

/** The key on the server, driven by hand. */
class Scripts {
  readonly #redis: Redis;
  readonly #ears = new Map<string, Redis>();
  readonly told: Told[] = [];

  constructor(redis: Redis) {
    this.#redis = redis;
  }

  async run(process: string, args: readonly string[]): Promise<unknown> {
    const channel = channelOf(process);
    const [answer] = (await this.#redis.eval(STEP.lua, 4, ...names, channel, ...args)) as unknown[];
    return answer;
  }

  async hear(process: string): Promise<void> {
    if (this.#ears.has(process)) return;
    const ear = this.#redis.duplicate();
    ear.on('message', (_channel: string, text: string) => {
      this.told.push(
        line(
          process,
          readMessage(text, (lock) => lock.slice('lock:'.length)),
        ),
      );
    });
    await ear.subscribe(channelOf(process));
    this.#ears.set(process, ear);
  }

  async deafen(process: string): Promise<void> {
    const ear = this.#ears.get(process);
    this.#ears.delete(process);
    await ear?.unsubscribe();
    ear?.disconnect();
  }

  /** A reply on each ear's own connection comes after every message that was published before. */
  async settle(): Promise<Told[]> {
    await Promise.all([...this.#ears.values()].map((ear) => ear.ping()));
    return this.told.splice(0).sort(byText);
  }

  /** Lets the lease of an owner end, as if its time had passed. */
  async expire(owner: string): Promise<void> {
    const value = await this.#redis.get(names[1] as string);
    if (value?.startsWith(`${owner} `)) await this.#redis.del(names[1] as string);
    else await this.die(owner, 'h');
  }

  async die(owner: string, kind: string): Promise<void> {
    const record = await this.#redis.hget(names[2] as string, `=${owner}`);
    if (record?.startsWith(kind)) await this.#redis.zadd(names[3] as string, 1e12, `d${owner}`);
  }

  async close(): Promise<void> {
    for (const process of [...this.#ears.keys()]) await this.deafen(process);
  }
}

/** The same key in the machine. */
class Machine {
  state: KeyState = emptyKeyState(6);
  readonly deaf = new Set<string>();
  readonly told: Told[] = [];
  nowMs = 1_000;
  epoch = 0;

  context(process: string): StepContext {
    return {
      nowMs: this.nowMs,
      channel: process,
      mintEpoch: () => {
        this.epoch += 1;
        return this.epoch;
      },
      lastEpoch: () => this.epoch,
      isListening: (other) => !this.deaf.has(other),
      tell: (other, event) => {
        if (!this.deaf.has(other)) this.told.push(line(other, event));
      },
    };
  }

  settle(): Told[] {
    return this.told.splice(0).sort(byText);
  }

  expire(owner: string): void {
    const holder = this.state.holders.find((one) => one.owner === owner);
    if (holder) holder.expiresAtMs = 0;
  }

  silence(owner: string): void {
    const waiter = this.state.waiters.find((one) => one.owner === owner);
    if (waiter) waiter.seenAtMs = -2 * LONG_MS;
  }
}

function line(process: string, event: StoreEvent | null): Told {
  const epoch = event?.is === 'granted' ? event.epoch : null;
  return { text: JSON.stringify({ process, ...event, epoch: undefined }), epoch };
}

const byText = (a: Told, b: Told): number => (a.text < b.text ? -1 : Number(a.text > b.text));

type Answer = (ClaimOutcome & { readonly held?: boolean }) | RenewOutcome | DropAnswer | null;

/** A drop is looked at together with the claim that it made. */
type DropAnswer = { readonly is: 'dropped'; readonly held: boolean };

function answerOf({ held, next }: DropOutcome): Answer {
  return next === null ? { is: 'dropped', held } : { ...next, held };
}

function grantsOf(one: Answer, other: Answer): Epoch[] {
  if (one?.is !== 'granted' || other?.is !== 'granted') return [];
  return [{ machine: other.epoch, server: one.epoch }];
}

function comparable(outcome: Answer): object | null {
  if (outcome === null) return null;
  const {
    claim: _,
    epoch: __,
    lookAgainMs: ___,
    detail: ____,
    ...rest
  } = outcome as unknown as Record<string, unknown>;
  return rest;
}

lane('Redis scripts', TOOLS.redis, () => {
  let server: RedisServer;
  let redis: Redis;
  beforeAll(async () => {
    server = await RedisServer.start(['--appendonly', 'no']);
    redis = server.client();
  });
  afterAll(async () => {
    redis?.disconnect();
    await server?.close();
  });
  beforeEach(async () => {
    await redis.flushall();
  });

  test('do what the machine does', async () => {
    const kinds = fc.constantFrom(...KINDS);
    await fc.assert(fc.asyncProperty(steps, kinds, compare), { numRuns: 150 });
  });

  test('do it for a mutex that few processes want, where there are shortcuts', async () => {
    const kinds = fc.constant(MUTEX);
    await fc.assert(fc.asyncProperty(turns, kinds, compare), { numRuns: 150 });
  });

  test('know in one run what an operation before did to the same key', async () => {
    const run = (process: string, operations: readonly string[]) => {
      const keys = names.slice(1).flatMap((name) => operations.map(() => name));
      const args = [names[0] as string, ...keys, channelOf(process), ...operations];
      return redis.eval(STEP.lua, keys.length + 1, ...args) as Promise<unknown[]>;
    };
    const claimOf = (owner: string): Claim => {
      return { key: KEY, owner, units: 6, capacity: 6, ttlMs: LONG_MS, wait: true };
    };
    const claimText = (owner: string): string => `c6 6 ${LONG_MS} 1 ${owner}`;
    const ears = new Scripts(redis);
    await ears.hear('b');
    await run('a', [claimText('a0')]);
    const queued = await run('b', ['b0', 'b1', 'b2'].map(claimText));
    const places = queued.map((answer, at) => readClaim(answer, claimOf(`b${at}`)).outcome);
    expect(places.map((place) => place.is === 'waiting' && place.ahead)).toEqual([0, 1, 2]);
    const [dropped, claimed] = await run('a', ['da0', claimText('a1')]);
    expect(readDrop(dropped, undefined).held).toBe(true);
    const { outcome } = readClaim(claimed, claimOf('a1'));
    expect(outcome).toMatchObject({ is: 'waiting', holder: 'b0', ahead: 2 });
    await ears.close();
  });

  async function compare(run: readonly Step[], kinds: readonly string[]): Promise<void> {
    const scripts = new Scripts(redis);
    const machine = new Machine();
    const epochs = new Epochs();
    try {
      await redis.flushall();
      for (const process of PROCESSES) await scripts.hear(process);
      for (const [index, step] of run.entries()) {
        machine.nowMs += 1;
        const { process } = actorOf(step, machine);
        const [one, other] = await both({ step, kinds, index, scripts, machine });
        expect(comparable(one), `step ${index}: ${JSON.stringify(step)}`).toEqual(
          comparable(other),
        );
        const [heard, told] = [await scripts.settle(), machine.settle()];
        expect(heard.map(({ text }) => text)).toEqual(told.map(({ text }) => text));
        epochs.granted([
          ...heard.flatMap(({ epoch: server }, at) => {
            const epoch = told[at]?.epoch;
            return server && epoch ? [{ machine: epoch, server }] : [];
          }),
          ...grantsOf(one, other),
        ]);
        if (one?.is === 'waiting' && other?.is === 'waiting') {
          epochs.waited({ machine: other.epoch, server: one.epoch });
        }
        // Side keys are deleted with the last member, and end by themselves when nobody is left to do that.
        for (const name of names) expect(await redis.pttl(name), name).not.toBe(-1);
        await compareTimes({ process, machine, one, other });
      }
      await dropAll(scripts, machine, kinds);
    } finally {
      await scripts.close();
    }
  }

  /** Whether a lease is exclusive, when it ends then, and when who waits for it looks again. */
  async function compareTimes(parts: {
    readonly process: string;
    readonly machine: Machine;
    readonly one: Answer;
    readonly other: Answer;
  }): Promise<void> {
    const { process, machine, one, other } = parts;
    const [holder, ...others] = machine.state.holders;
    if (!holder || holder.expiresAtMs <= machine.nowMs) return;
    const isShared = holder.units !== machine.state.capacity;
    expect((await redis.get(names[1] as string)) === 'leasehold:shared').toBe(isShared);
    if (isShared || others.length > 0) return;
    const leftMs = await redis.pttl(names[1] as string);
    expect(hours(leftMs)).toBe(hours(holder.expiresAtMs - machine.nowMs));
    if (machine.deaf.has(process) || one?.is !== 'waiting' || other?.is !== 'waiting') return;
    expect(hours(one.lookAgainMs)).toBe(hours(other.lookAgainMs));
  }

  /** Nothing is left of a key once everything was dropped. */
  async function dropAll(
    scripts: Scripts,
    machine: Machine,
    kinds: readonly string[],
  ): Promise<void> {
    for (const process of PROCESSES) {
      for (let owner = 0; owner < 3; owner += 1) {
        const step: Step = {
          do: 'drop',
          isFirst: false,
          process: PROCESSES.indexOf(process),
          owner,
          kind: 0,
          wait: true,
        };
        const [one, other] = await both({ step, kinds, index: 0, scripts, machine });
        expect(comparable(one)).toEqual(comparable(other));
      }
    }
    const { holders, waiters } = machine.state;
    for (const { owner } of [...holders, ...waiters]) {
      dropKey(machine.state, { key: KEY, owner }, undefined, machine.context('a'));
      await scripts.run('a', [`d${owner}`]);
    }
    if (isEmpty(machine.state)) {
      expect((await redis.keys('*')).filter((key) => key !== names[0])).toEqual([]);
    }
  }
});

/** Who makes a step. */
function actorOf(step: Step, { state }: Machine): { process: string; owner: string } {
  const first = state.waiters[0];
  if (step.isFirst && step.do === 'silence' && first) {
    return { process: first.channel, owner: first.owner };
  }
  const holder = step.isFirst && step.do !== 'claim' ? state.holders[0] : undefined;
  if (holder) return { process: holder.channel, owner: holder.owner };
  const process = PROCESSES[step.process] as string;
  return { process, owner: `host:${step.process}:${process}${step.owner}` };
}

/** Its ttl is another one in half of the cases. */
function nextOf(claim: Claim, index: number): Claim {
  const owner = `${claim.owner}-${index}`;
  return { ...claim, owner, ttlMs: ttlOf(owner) };
}

async function both(parts: {
  readonly step: Step;
  readonly kinds: readonly string[];
  readonly index: number;
  readonly scripts: Scripts;
  readonly machine: Machine;
}): Promise<[Answer, Answer]> {
  const { step, scripts, machine } = parts;
  const { process, owner } = actorOf(step, machine);
  const [units, capacity] = (parts.kinds[step.kind] as string).split('/').map(Number) as [
    number,
    number,
  ];
  const ttlMs = ttlOf(owner);
  const claim: Claim = { key: KEY, owner, units, capacity, ttlMs, wait: step.wait };
  const textOf = (of: Claim): string =>
    `c${of.units} ${of.capacity} ${of.ttlMs} ${of.wait ? 1 : 0} ${of.owner}`;
  const { state } = machine;
  switch (step.do) {
    case 'claim': {
      const answer = await scripts.run(process, [textOf(claim)]);
      const { outcome, isHeard } = readClaim(answer, claim);
      if (outcome.is === 'waiting') expect(isHeard).toBe(!machine.deaf.has(process));
      return [outcome, claimKey(state, claim, machine.context(process))];
    }
    case 'renew':
      return [
        readRenew(await scripts.run(process, [`r${owner}`])),
        renewKey(state, claim, machine.context(process)),
      ];
    case 'drop':
    case 'again': {
      const again = step.do === 'again' ? nextOf(claim, parts.index) : undefined;
      const sent = again ? [`a${owner}`, textOf(again)] : [`d${owner}`];
      const one = readDrop(await scripts.run(process, sent), again);
      const other = dropKey(state, claim, again, machine.context(process));
      return [answerOf(one), answerOf(other)];
    }
    case 'expire':
      machine.expire(owner);
      await scripts.expire(owner);
      return [null, null];
    case 'silence':
      machine.silence(owner);
      await scripts.die(owner, 'w');
      return [null, null];
    case 'deafen':
      machine.deaf.add(process);
      await scripts.deafen(process);
      return [null, null];
    case 'hear':
      machine.deaf.delete(process);
      await scripts.hear(process);
      return [null, null];
    default:
      return step.do satisfies never;
  }
}
