/**
 * What a state on Redis remembers of its messages, against a model: random commits, loads and marks, time that passes,
 * ids that are evicted. Nothing is applied twice, nothing that is good is refused, and what is known is said to be.
 *
 * Time passes by making everything on the server older, so that no test waits for it.
 */
import fc from 'fast-check';
import type { Redis } from 'ioredis';
import { redisState } from 'leasehold/redis';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import type { CommitMessage, CommitOutcome, Mark } from '../../dist/src/consumer/contracts.js';
import { CURRENT_FORMAT, OTHERS_FORMAT, WIDTH } from '../../dist/src/redis/scripts/remembered.js';
import { STATE } from '../../dist/src/redis/scripts/state.js';
import { RedisServer } from '../servers/redis.ts';
import { lane, TOOLS } from '../servers/require.ts';
import { recordOf } from './record.ts';

/** Times are whole or half eighths of it: the seconds that a run takes decide nothing. */
const WINDOW_MS = 16 * 3_600_000;
const EIGHTH_MS = WINDOW_MS / 8;
const STATES = ['a', 'b'];
const POOL = 12;
const lease = { tokenText: '9'.padStart(20, '0') };

/** KEYS those of a state, ARGV ms: as if so much time had passed. */
const AGE = `
local ms = tonumber(ARGV[1])
for _, key in ipairs(KEYS) do
  local left = redis.call('PTTL', key)
  if left >= 0 then redis.call('PEXPIRE', key, string.format('%.0f', left - ms)) end
end
local record = redis.call('HGET', KEYS[1], 'r')
local function aged(format, text, at, times)
  local part = { struct.unpack(format, text, at) }
  local rest = table.remove(part)
  for _, index in ipairs(times) do
    if part[index] > 0 then part[index] = part[index] - ms end
  end
  return struct.pack(format, unpack(part)), rest, part
end
if record then
  local head, at, part = aged('${CURRENT_FORMAT}', record, 1, { 3, 4, 6 })
  local last = at + part[7] * ${WIDTH}
  local younger, others = string.sub(record, at, last - 1), ''
  if part[1] > 1 then others, last = aged('${OTHERS_FORMAT}', record, last, { 2, 5 }) end
  redis.call('HSET', KEYS[1], 'r', head .. younger .. others .. string.sub(record, last))
end
local dead = redis.call('ZRANGE', KEYS[2], 0, -1, 'WITHSCORES')
for index = 1, #dead, 2 do
  redis.call('ZADD', KEYS[2], string.format('%.0f', dead[index + 1] - ms), dead[index])
end
`;

function namesOf(key: string): string[] {
  const sides = ['d', 'i1', 'i2', 'i3'].map((side) => `leasehold:${side}:state:${key}`);
  return [`state:${key}`, ...sides];
}

interface Copy {
  readonly id: number;
  /** Half eighths of a window before now; negative ahead of it. */
  readonly age: number;
  readonly isReplay: boolean;
}

type Step =
  | { readonly do: 'load' | 'mark'; readonly copies: readonly Copy[] }
  | {
      readonly do: 'commit';
      readonly copies: readonly Copy[];
      /** The messages were loaded before, so that the commit need not look for what is known. */
      readonly isLoaded?: boolean;
    }
  | { readonly do: 'bulk'; readonly size: number }
  | { readonly do: 'age'; readonly eighths: number }
  | { readonly do: 'evict'; readonly generation: number };

const copies = fc.uniqueArray(
  fc.record<Copy>({
    id: fc.nat({ max: POOL - 1 }),
    // Odd, so that no time is at the edge of a window.
    age: fc.oneof(fc.integer({ min: -4, max: 4 }), fc.integer({ min: -10, max: 9 })),
    isReplay: fc.boolean(),
  }),
  { minLength: 1, maxLength: 3, selector: ({ id }) => id },
);
const steps = fc.array(
  fc.oneof<fc.WeightedArbitrary<Step>[]>(
    {
      weight: 6,
      arbitrary: fc.record({
        do: fc.constant('commit' as const),
        copies,
        isLoaded: fc.boolean(),
      }),
    },
    { weight: 2, arbitrary: fc.record({ do: fc.constant('load' as const), copies }) },
    { weight: 1, arbitrary: fc.record({ do: fc.constant('mark' as const), copies }) },
    {
      weight: 2,
      arbitrary: fc.record({
        do: fc.constant('bulk' as const),
        size: fc.constantFrom(1, 30, 51, 130),
      }),
    },
    {
      weight: 3,
      arbitrary: fc.record({
        do: fc.constant('age' as const),
        // Clocks are set back as well.
        eighths: fc.constantFrom(1, 2, 4, 5, 9, -1, -6),
      }),
    },
    {
      weight: 1,
      arbitrary: fc.record({
        do: fc.constant('evict' as const),
        generation: fc.integer({ min: 1, max: 3 }),
      }),
    },
  ),
  { minLength: 1, maxLength: 40, size: 'max' },
);

function commitOf(id: number, age = 0): Step {
  return { do: 'commit', copies: [{ id, age, isReplay: false }] };
}

const EXAMPLES: readonly Step[][] = [
  // A hash has expired when a later copy of an id that stands in the state itself comes.
  [
    { do: 'bulk', size: 51 },
    commitOf(0),
    { do: 'age', eighths: 9 },
    {
      do: 'commit',
      copies: [0, 1].map((id) => ({ id, age: 0, isReplay: false })),
    },
    commitOf(0),
  ],
  // A later copy of an id outlives the generation that has it.
  ...(['load', 'commit', 'mark'] as const).map((seen): Step[] => [
    commitOf(0),
    { do: 'age', eighths: 5 },
    commitOf(1),
    { do: seen, copies: [{ id: 0, age: 0, isReplay: false }] },
    { do: 'age', eighths: 4 },
    commitOf(2),
    commitOf(0, 4),
  ]),
  // A later copy was seen before a replay of an earlier one was applied.
  [
    { do: 'mark', copies: [{ id: 0, age: 0, isReplay: false }] },
    { do: 'load', copies: [{ id: 0, age: -1, isReplay: false }] },
    { do: 'commit', copies: [{ id: 0, age: 0, isReplay: true }] },
    { do: 'age', eighths: 8 },
    commitOf(1),
    commitOf(0, 7),
  ],
  // What is forgotten later is older than what was evicted.
  [
    commitOf(0),
    { do: 'age', eighths: 5 },
    commitOf(1),
    { do: 'bulk', size: 51 },
    { do: 'evict', generation: 2 },
    commitOf(2),
    { do: 'age', eighths: 4 },
    commitOf(3),
    commitOf(1, 5),
  ],
  // The generation that had the earlier copy is forgotten, and the clock is set back.
  [
    commitOf(0, -3),
    { do: 'age', eighths: 5 },
    commitOf(2),
    { do: 'mark', copies: [{ id: 0, age: 0, isReplay: false }] },
    { do: 'age', eighths: 5 },
    { do: 'age', eighths: 1 },
    { do: 'bulk', size: 1 },
    { do: 'age', eighths: -6 },
    commitOf(1, 3),
  ],
  // Another one is marked after the clock was set back.
  [
    { do: 'mark', copies: [{ id: 7, age: -4, isReplay: false }] },
    { do: 'age', eighths: -6 },
    { do: 'mark', copies: [{ id: 1, age: 0, isReplay: false }] },
    { do: 'age', eighths: 9 },
    { do: 'age', eighths: 8 },
    commitOf(7, 7),
  ],
];

interface Known {
  mark: Mark;
  /** The latest copy that was seen. */
  atMs: number;
  /** It may have been forgotten: its time was over, or its hash may have been evicted. */
  isSure: boolean;
}

class Model {
  readonly known = new Map<string, Known>();
  /** When applied messages were published, of every copy that was seen: each generation forgets those that it has. */
  readonly #appliedMs = new Set<number>();
  version = 0;
  /** Messages up to then may have been forgotten. */
  forgottenMs = 0;

  isSure(id: string): boolean {
    return this.known.get(id)?.isSure === true;
  }

  /** What may be forgotten by now, and stays so when the clock is set back. */
  tick(nowMs: number): void {
    this.#doubt(({ atMs }) => atMs <= nowMs - WINDOW_MS);
    for (const atMs of this.#appliedMs) {
      if (atMs <= nowMs - WINDOW_MS) this.forgottenMs = Math.max(this.forgottenMs, atMs);
    }
  }

  /** A hash of applied ids; which ids stood in it is not looked at. */
  evict(): void {
    this.#doubt(({ mark }) => mark === 'applied');
  }

  #doubt(isIn: (known: Known) => boolean): void {
    for (const known of this.known.values()) {
      if (!isIn(known)) continue;
      known.isSure = false;
      if (known.mark === 'applied') this.forgottenMs = Math.max(this.forgottenMs, known.atMs);
    }
  }

  see({ id, publishedAtMs }: CommitMessage, mark: Mark, nowMs: number): void {
    const before = this.known.get(id);
    const beforeMs = before?.isSure ? before.atMs : 0;
    const atMs = Math.max(beforeMs, Math.min(publishedAtMs, nowMs + WINDOW_MS));
    this.known.set(id, { mark, atMs, isSure: true });
    if (mark === 'applied') this.#appliedMs.add(atMs);
    // It may be too old already, and the clock may be set back before the next step.
    this.#doubt((known) => known === this.known.get(id) && known.atMs <= nowMs - WINDOW_MS);
  }

  /** The marks of an answer are true, and none is missing. */
  checkMarks(
    marks: ReadonlyMap<string, Mark>,
    messages: readonly CommitMessage[],
    nowMs: number,
  ): void {
    for (const message of messages) {
      const known = this.known.get(message.id);
      const mark = marks.get(message.id);
      if (this.isSure(message.id)) expect(mark, message.id).toBe(known?.mark);
      if (mark === undefined) continue;
      expect(known?.mark, message.id).toBe(mark);
      this.see(message, mark, nowMs);
    }
  }

  checkCommit(outcome: CommitOutcome, messages: readonly CommitMessage[], nowMs: number): void {
    const replays = new Set(messages.filter(({ isReplay }) => isReplay).map(({ id }) => id));
    const others = messages.filter(
      ({ id }) => !(replays.has(id) && this.known.get(id)?.mark === 'dead-lettered'),
    );
    const old = messages.filter(
      ({ publishedAtMs }) => Math.abs(publishedAtMs - nowMs) >= WINDOW_MS,
    );
    switch (outcome.is) {
      case 'known':
        expect(outcome.marks.size).toBeGreaterThan(0);
        this.checkMarks(outcome.marks, others, nowMs);
        return;
      case 'too-old':
        expect(others.some(({ id }) => this.isSure(id))).toBe(false);
        for (const { id } of old) expect(outcome.ids).toContain(id);
        for (const { id, publishedAtMs } of messages) {
          if (!outcome.ids.includes(id)) continue;
          const isOut = Math.abs(publishedAtMs - nowMs) >= WINDOW_MS;
          expect(isOut || publishedAtMs <= this.forgottenMs, `${id} is not too old`).toBe(true);
        }
        return;
      case 'committed':
        expect(old).toEqual([]);
        for (const { id, publishedAtMs } of others) {
          const known = this.known.get(id);
          expect(this.isSure(id), `${id} is applied again`).toBe(false);
          // A later copy that nobody has seen is beyond what is promised.
          if (known?.mark === 'applied') {
            expect(publishedAtMs, `${id} is applied again`).toBeGreaterThan(known.atMs);
          }
        }
        for (const message of messages) this.see(message, 'applied', nowMs);
        this.version += 1;
        return;
      default:
        throw new Error(`it is ${outcome.is}`);
    }
  }
}

lane('what states on Redis remember', TOOLS.redis, () => {
  let server: RedisServer;
  let client: Redis;
  let unique = 0;
  beforeAll(async () => {
    server = await RedisServer.start(['--appendonly', 'no']);
    client = server.client();
  });
  afterAll(async () => {
    client?.disconnect();
    await server?.close();
  });
  beforeEach(() => client.flushall());

  test('is what the model says', async () => {
    const state = redisState(client, { windowMs: WINDOW_MS });
    await state.open();
    await fc.assert(
      fc.asyncProperty(steps, async (run) => {
        await client.flushall();
        const models = STATES.map(() => new Model());
        // How much of the time has passed that did not pass in truth.
        let aheadMs = 0;
        for (const step of run) {
          if (step.do === 'age') aheadMs += step.eighths * EIGHTH_MS;
          const nowMs = Date.now() + aheadMs;
          unique += 1;
          // In one run of the script.
          await Promise.all(
            STATES.map((key, at) =>
              perform({ state, step, key, model: models[at] as Model, nowMs, aheadMs }),
            ),
          );
        }
      }),
      { numRuns: 150, examples: EXAMPLES.map((run) => [run]) },
    );
    await state.close();
  });

  test('are whole ids, and not what the end of one and the start of the next make', async () => {
    const run = async (operation: string, ...texts: string[]) => {
      const args = ['process', '86400000', String(WINDOW_MS), '5', '7', operation, ...texts];
      const names = ['leasehold:epoch', ...namesOf('a')];
      return client.eval(STATE.lua, names.length, ...names, ...args);
    };
    const textOf = (ids: readonly string[]) => ids.map((id) => `${id}${Date.now()}0`).join('');
    const ids = ['aaaaabbbbb', 'cccccddddd'];
    const committed = await run(`c0${lease.tokenText}0 1 5 first${textOf(ids)}`, 'v');
    expect(committed).toEqual(['committed']);
    const asked = textOf(['bbbbbccccc', 'cccccddddd']);
    expect(await run(`l0${lease.tokenText}${asked}`)).toEqual(['loaded', '1', 'v', null, [2, 'a']]);
  });

  describe('by time', () => {
    const names = namesOf('a');
    const now = (id: string) => ({ id, publishedAtMs: Date.now(), isReplay: false });
    const sixty = Array.from({ length: 60 }, (_, index) => `m-${index}`);
    let state: ReturnType<typeof redisState>;
    beforeEach(async () => {
      state = redisState(client, { windowMs: WINDOW_MS });
      await state.open();
    });
    afterEach(() => state.close());

    const age = (ms: number) => client.eval(AGE, names.length, ...names, ms);
    const hashLeftMs = () => client.pttl(names[2] as string);

    async function commit(version: number, messages: readonly CommitMessage[]): Promise<void> {
      const id = `commit:${version}`;
      const sent = { key: 'a', lease, id, expectedVersion: version, value: 'v', messages };
      expect(await state.commit(sent)).toEqual({ is: 'committed', version: version + 1 });
    }

    test('a copy that is dated far ahead keeps nothing for ever', async () => {
      await commit(0, sixty.map(now));
      const copy = { ...now('m-7'), publishedAtMs: Date.now() + 1_000 * WINDOW_MS };
      const loaded = await state.load('a', lease, [copy]);
      expect(loaded.is === 'loaded' && [...loaded.marks.keys()]).toEqual(['m-7']);
      await age(3 * WINDOW_MS);
      await commit(1, [now('m-8')]);
      expect(await client.exists(...names.slice(2))).toBe(0);
    });

    test('a generation is forgotten whole, wherever its ids stand', async () => {
      await commit(0, sixty.map(now));
      await commit(1, [now('young')]);
      await age(5 * EIGHTH_MS);
      await commit(2, [now('next')]);
      expect((await recordOf(client, names[0] as string)).young).toEqual([1, 1, 0]);
      await age(3 * EIGHTH_MS + 30_000);
      // Its expiry is later than that.
      expect(await hashLeftMs()).toBeGreaterThan(0);
      await commit(3, [now('last')]);
      expect(await client.exists(names[2] as string)).toBe(0);
      expect((await recordOf(client, names[0] as string)).young).toEqual([0, 2, 0]);
    });

    test('a generation is begun after half a window, once its last ids are forgotten', async () => {
      const current = async () => (await recordOf(client, names[0] as string)).current;
      await commit(0, [{ ...now('ahead'), publishedAtMs: Date.now() + 7.5 * EIGHTH_MS }]);
      for (const [at, [eighths, generation]] of [
        [3, 1],
        [2, 2],
        [5, 3],
        [4, 3],
        [2, 1],
      ].entries()) {
        await age((eighths as number) * EIGHTH_MS);
        await commit(at + 1, [now(`m-${at}`)]);
        expect(await current(), `${at}`).toBe(generation);
      }
    });

    test('a hash expires after its latest message is too old, wherever that one stands', async () => {
      await commit(
        0,
        sixty.map((id) => ({ ...now(id), publishedAtMs: Date.now() - 4 * EIGHTH_MS })),
      );
      expect(Math.round((await hashLeftMs()) / EIGHTH_MS)).toBe(4);
      await commit(1, [now('young')]);
      expect(Math.round((await hashLeftMs()) / EIGHTH_MS)).toBe(8);
    });
  });

  async function perform(parts: {
    readonly state: ReturnType<typeof redisState>;
    readonly step: Step;
    readonly key: string;
    readonly model: Model;
    readonly nowMs: number;
    readonly aheadMs: number;
  }): Promise<void> {
    const { state, step, key, model, nowMs, aheadMs } = parts;
    model.tick(nowMs);
    if (step.do === 'age') {
      await client.eval(AGE, 5, ...namesOf(key), step.eighths * EIGHTH_MS);
      return;
    }
    if (step.do === 'evict') {
      if ((await client.del(namesOf(key)[1 + step.generation] as string)) > 0) model.evict();
      return;
    }
    const messages: CommitMessage[] =
      step.do === 'bulk'
        ? Array.from({ length: step.size }, (_, index) => {
            return { id: `bulk-${unique}-${index}`, publishedAtMs: nowMs, isReplay: false };
          })
        : step.copies.map(({ id, age, isReplay }) => {
            const publishedAtMs = Math.round(nowMs - (age + 0.5) * EIGHTH_MS);
            return { id: `m-${id}`, publishedAtMs, isReplay };
          });
    // What the server is told: its clock stands still.
    const sent = messages.map((message) => {
      return { ...message, publishedAtMs: message.publishedAtMs - aheadMs };
    });
    if (step.do === 'load' || (step.do === 'commit' && step.isLoaded)) {
      const loaded = await state.load(key, lease, sent);
      expect(loaded).toMatchObject({ is: 'loaded', version: model.version });
      if (loaded.is === 'loaded') model.checkMarks(loaded.marks, messages, nowMs);
    }
    if (step.do === 'load') return;
    if (step.do === 'mark') {
      const marks = await state.markDead(key, sent);
      for (const message of messages) {
        const mark = marks.get(message.id);
        expect(mark).toBeDefined();
        const known = model.known.get(message.id);
        if (model.isSure(message.id)) expect(mark).toBe(known?.mark);
        else if (mark === 'applied') expect(known?.mark).toBe(mark);
        model.see(message, mark as Mark, nowMs);
      }
      return;
    }
    const id = `${key}:${unique}`;
    const commit = { key, lease, id, expectedVersion: model.version, value: id, messages: sent };
    model.checkCommit(await state.commit(commit), messages, nowMs);
  }
});
