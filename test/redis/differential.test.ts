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
import type { Claim, StoreEvent } from '../../dist/src/core/store.js';
import { readClaim, readDrop, readMessage, readRenew } from '../../dist/src/redis/answers.js';
import { STEP } from '../../dist/src/redis/scripts/step.js';
import { RedisServer } from '../servers/redis.ts';
import { lane, TOOLS } from '../servers/require.ts';

const KEY = 'k';
const TTL_MS = 3_600_000;
const PROCESSES = ['a', 'b', 'c'];

interface Step {
  readonly do: 'claim' | 'renew' | 'drop' | 'again' | 'expire' | 'silence' | 'deafen' | 'hear';
  readonly process: number;
  readonly owner: number;
  readonly kind: number;
  readonly wait: boolean;
}

const steps = fc.array(
  fc.record<Step>({
    do: fc.constantFrom(
      ...(['claim', 'claim', 'claim', 'drop', 'drop', 'again', 'renew'] as const),
      ...(['expire', 'silence', 'deafen', 'hear'] as const),
    ),
    process: fc.nat({ max: PROCESSES.length - 1 }),
    owner: fc.nat({ max: 2 }),
    kind: fc.nat({ max: 3 }),
    wait: fc.boolean(),
  }),
  { minLength: 1, maxLength: 40 },
);

/** Mostly of one capacity, so that the queue fills: mutexes and readers, permits, and everything at once. */
const KINDS = [
  ['6/6', '1/6', '1/6', '2/6'],
  ['1/2', '1/2', '1/2', '1/2'],
  ['6/6', '1/6', '1/2', '1/1'],
] as const;

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
  readonly told: string[] = [];

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
  async settle(): Promise<string[]> {
    await Promise.all([...this.#ears.values()].map((ear) => ear.ping()));
    return this.told.splice(0).sort();
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
  readonly told: string[] = [];
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

  settle(): string[] {
    return this.told.splice(0).sort();
  }

  expire(owner: string): void {
    const holder = this.state.holders.find((one) => one.owner === owner);
    if (holder) holder.expiresAtMs = 0;
  }

  silence(owner: string): void {
    const waiter = this.state.waiters.find((one) => one.owner === owner);
    if (waiter) waiter.seenAtMs = -2 * TTL_MS;
  }
}

/** Epochs differ between the two; their order is looked at separately. */
function line(process: string, event: StoreEvent | null): string {
  return JSON.stringify({ process, ...event, epoch: undefined });
}

function comparable(outcome: object): object {
  const {
    claim: _,
    epoch: __,
    lookAgainMs: ___,
    detail: ____,
    ...rest
  } = outcome as Record<string, unknown>;
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
    await fc.assert(fc.asyncProperty(steps, kinds, compare), { numRuns: 200 });
  });

  async function compare(run: readonly Step[], kinds: readonly string[]): Promise<void> {
    const scripts = new Scripts(redis);
    const machine = new Machine();
    let lastEpoch = 0n;
    try {
      await redis.flushall();
      for (const process of PROCESSES) await scripts.hear(process);
      for (const [index, step] of run.entries()) {
        machine.nowMs += 1;
        const [one, other] = await both({ step, kinds, index, scripts, machine });
        expect(one, `step ${index}: ${JSON.stringify(step)}`).toEqual(other);
        expect(await scripts.settle()).toEqual(machine.settle());
        const epoch = BigInt((await redis.get(names[0] as string)) ?? 0);
        expect(epoch).toBeGreaterThanOrEqual(lastEpoch);
        lastEpoch = epoch;
      }
      await dropAll(scripts, machine, kinds);
    } finally {
      await scripts.close();
    }
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
          process: PROCESSES.indexOf(process),
          owner,
          kind: 0,
          wait: true,
        };
        const [one, other] = await both({ step, kinds, index: 0, scripts, machine });
        expect(one).toEqual(other);
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

async function both(parts: {
  readonly step: Step;
  readonly kinds: readonly string[];
  readonly index: number;
  readonly scripts: Scripts;
  readonly machine: Machine;
}): Promise<[unknown, unknown]> {
  const { step, scripts, machine } = parts;
  const process = PROCESSES[step.process] as string;
  const owner = `host:${step.process}:${process}${step.owner}`;
  const [units, capacity] = (parts.kinds[step.kind] as string).split('/').map(Number) as [
    number,
    number,
  ];
  const claim: Claim = { key: KEY, owner, units, capacity, ttlMs: TTL_MS, wait: step.wait };
  const textOf = (of: Claim): string =>
    `c${of.units} ${of.capacity} ${of.ttlMs} ${of.wait ? 1 : 0} ${of.owner}`;
  const { state } = machine;
  switch (step.do) {
    case 'claim': {
      const answer = await scripts.run(process, [textOf(claim)]);
      return [
        comparable(readClaim(answer, claim).outcome),
        comparable(claimKey(state, claim, machine.context(process))),
      ];
    }
    case 'renew':
      return [
        readRenew(await scripts.run(process, [`r${owner}`])),
        renewKey(state, claim, machine.context(process)),
      ];
    case 'drop':
    case 'again': {
      const again =
        step.do === 'again' ? { ...claim, owner: `${owner}-${parts.index}` } : undefined;
      const sent = again ? [`a${owner}`, textOf(again)] : [`d${owner}`];
      const one = readDrop(await scripts.run(process, sent), again);
      const other = dropKey(state, claim, again, machine.context(process));
      return [
        { held: one.held, next: one.next && comparable(one.next) },
        { held: other.held, next: other.next && comparable(other.next) },
      ];
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
