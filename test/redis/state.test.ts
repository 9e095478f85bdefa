/**
 * What is particular to states on Redis: how ids are remembered, and for how long.
 */
import type { Redis } from 'ioredis';
import { fenced, redisState } from 'leasehold/redis';
import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest';
import { until } from '../servers/processes.ts';
import { PATIENT, RedisServer } from '../servers/redis.ts';
import { lane, TOOLS } from '../servers/require.ts';
import { recordOf } from './record.ts';

const HOUR_MS = 3_600_000;
const lease = tokenOf(10n ** 18n);

function tokenOf(token: bigint): { tokenText: string } {
  return { tokenText: token.toString().padStart(20, '0') };
}

function message(id: string, publishedAtMs: number = Date.now(), isReplay = false) {
  return { id, publishedAtMs, isReplay };
}

lane('states on Redis', TOOLS.redis, () => {
  let server: RedisServer;
  let client: Redis;
  let commits = 0;
  beforeAll(async () => {
    server = await RedisServer.start(['--appendfsync', 'no']);
    client = server.client();
  });
  afterAll(async () => {
    client?.disconnect();
    await server?.close();
  });
  beforeEach(() => client.flushall());

  async function open(windowMs = HOUR_MS) {
    const state = redisState(client, { ...PATIENT, windowMs });
    await state.open();
    return state;
  }

  function commit(key: string, expectedVersion: number, messages: ReturnType<typeof message>[]) {
    commits += 1;
    return { key, lease, id: `commit:${commits}`, expectedVersion, value: 'v', messages };
  }

  test('of thousands of ids each is known, and no other one, at twelve or so bytes each', async () => {
    const state = await open();
    const idOf = (index: number): string => `message-${index}`;
    let version = 0;
    let count = 0;
    // Batches of all sizes, so that fields are split one by one and many at once.
    for (const size of [1, 1, 48, 49, 1, 300, 7, 93, 1_500, 1, 200, 4_000, 2_500]) {
      const from = count;
      const messages = Array.from({ length: size }, (_, index) => message(idOf(from + index)));
      const outcome = await state.commit(commit('k', version, messages));
      expect(outcome).toEqual({ is: 'committed', version: version + 1 });
      version += 1;
      count += size;
    }
    const all = Array.from({ length: count }, (_, index) => message(idOf(index)));
    const others = Array.from({ length: count }, (_, index) => message(`other-${index}`));
    const loaded = await state.load('k', lease, [...all, ...others]);
    expect(loaded).toMatchObject({ is: 'loaded', version });
    if (loaded.is === 'loaded') expect([...loaded.marks.keys()]).toEqual(all.map(({ id }) => id));
    const bytes = Number(await client.memory('USAGE', 'leasehold:i1:state:k', 'SAMPLES', 0));
    expect(bytes / count).toBeLessThan(16);
    await state.close();
  });

  test('a state is a fenced value, and both share one fence', async () => {
    const state = await open();
    await state.commit(commit('k', 0, [message('a')]));
    const values = fenced(client, { ...PATIENT, prefix: 'state:' });
    expect(await values.get('k', lease)).toEqual({ value: 'v', version: 1 });
    const older = await state.load('k', tokenOf(1n), []);
    expect(older).toEqual({ is: 'stale', fence: lease.tokenText });
    await state.close();
  });

  test('a state that began as a fenced value outlives what that value would have had', async () => {
    const state = await open();
    const values = fenced(client, { ...PATIENT, prefix: 'state:' });
    await values.set('k', 'short', lease, { ttlMs: 1 });
    await until('it has expired', async () => (await values.get('k', lease)).value === null);
    await values.set('l', 'long', lease, { ttlMs: HOUR_MS });
    for (const key of ['k', 'l']) {
      expect(await state.commit(commit(key, 1, [message('a')]))).toMatchObject({ version: 2 });
      expect(await client.pttl(`state:${key}`)).toBe(-1);
      expect(await client.hexists(`state:${key}`, 'x')).toBe(0);
    }
    await state.close();
  });

  test('a fence without a value ends a day after its last use, and a value never', async () => {
    const state = await open();
    const uses = {
      load: () => state.load('k', lease, []),
      'load with messages': () => state.load('k', lease, [message('a')]),
      'refused commit': () => state.commit(commit('k', 7, [])),
      mark: () => state.markDead('k', [message('dead')]),
    };
    for (const [name, use] of Object.entries(uses)) {
      await use();
      expect(await client.pttl('state:k'), name).toBeGreaterThan(23 * HOUR_MS);
      await client.pexpire('state:k', HOUR_MS);
    }
    await state.commit(commit('k', 0, [message('a')]));
    for (const [name, use] of Object.entries(uses)) {
      await use();
      expect(await client.pttl('state:k'), name).toBe(-1);
    }
    await state.close();
  });

  test('marks of dead letters end with their window, however far ahead they are dated', async () => {
    const state = await open();
    const dead = 'leasehold:d:state:k';
    await state.markDead('k', [message('a', Date.now() - 2 * HOUR_MS)]);
    expect(await client.exists(dead)).toBe(0);
    await state.markDead('k', [message('a', Date.now() + 1_000 * HOUR_MS)]);
    expect(await client.zcount(dead, '-inf', Date.now() + 2 * HOUR_MS)).toBe(1);
    const leftMs = await client.pttl(dead);
    expect(leftMs).toBeGreaterThan(1.5 * HOUR_MS);
    expect(leftMs).toBeLessThan(2.5 * HOUR_MS);
    await state.close();
  });

  test('copies in one commit are one id, and the latest of them counts', async () => {
    const state = await open();
    const copies = [message('a'), message('a', Date.now() - 2 * HOUR_MS)];
    for (const [key, some] of Object.entries({ k: copies, l: copies.toReversed() })) {
      expect(await state.commit(commit(key, 0, some))).toMatchObject({ is: 'committed' });
      expect((await recordOf(client, `state:${key}`)).young).toEqual([1, 0, 0]);
    }
    await state.close();
  });

  test('a batch of ten thousand is committed, loaded and marked, and its copies too', async () => {
    const state = await open();
    const all = Array.from({ length: 10_000 }, (_, index) => message(`m-${index}`));
    const dead = Array.from({ length: 10_000 }, (_, index) =>
      message(`d-${index}`, Date.now(), true),
    );
    expect((await state.markDead('k', dead)).size).toBe(10_000);
    expect(await state.commit(commit('k', 0, [...all, ...dead]))).toMatchObject({
      is: 'committed',
    });
    const again = await state.commit(commit('k', 1, [...all, ...dead]));
    expect(again.is === 'known' && again.marks.size).toBe(20_000);
    const loaded = await state.load('k', lease, [...all, ...dead]);
    expect(loaded.is === 'loaded' && loaded.marks.size).toBe(20_000);
    await state.close();
  });

  test('a copy at the end of a batch of ten thousand is one id with the first', async () => {
    const state = await open();
    const all = Array.from({ length: 10_000 }, (_, index) => message(`m-${index}`));
    const batch = [...all, message('m-0')];
    expect(await state.commit(commit('k', 0, batch))).toEqual({ is: 'committed', version: 1 });
    const loaded = await state.load('k', lease, batch);
    expect(loaded.is === 'loaded' && loaded.marks.size).toBe(10_000);
    await state.close();
  });

  test('of what is asked for in one turn each has its own answer, in runs of 32', async () => {
    const state = await open();
    const keys = Array.from({ length: 70 }, (_, index) => `k${index}`);
    const batch = (key: string) => Array.from({ length: 60 }, (_, at) => message(`${key}:${at}`));
    const commits = keys.map((key) => ({ ...commit(key, 0, batch(key)), value: `of ${key}` }));
    await client.config('RESETSTAT');
    const outcomes = await Promise.all(commits.map((one) => state.commit(one)));
    expect(outcomes).toEqual(keys.map(() => ({ is: 'committed', version: 1 })));
    const calls = /cmdstat_evalsha:calls=(\d+)/.exec(await client.info('commandstats'));
    expect(calls?.[1]).toBe('3');
    // Every third one is refused, and every third is loaded.
    const answers = await Promise.all(
      commits.map(async (one, at) => {
        const { key } = one;
        if (at % 3 === 0) return state.load(key, lease, [message(`${key}:${at % 60}`)]);
        return state.commit({ ...one, id: `${one.id}:2`, expectedVersion: at % 3 === 1 ? 9 : 1 });
      }),
    );
    for (const [at, answer] of answers.entries()) {
      const key = keys[at] as string;
      if (answer.is === 'loaded') {
        expect(answer.value).toBe(`of ${key}`);
        expect([...answer.marks.keys()]).toEqual([`${key}:${at % 60}`]);
      } else if (answer.is === 'known') {
        expect(answer.marks.size).toBe(60);
      }
      expect(answer.is).toBe(['loaded', 'moved', 'known'][at % 3]);
    }
    await state.close();
  });

  test('of ids that stand in the state and in a hash each is known', async () => {
    const state = await open();
    const all = Array.from({ length: 90 }, (_, index) => message(`m-${index}`));
    for (const [version, from] of [0, 30, 60].entries()) {
      await state.commit(commit('k', version, all.slice(from, from + 30)));
      const [inState] = (await recordOf(client, 'state:k')).young;
      expect([inState, await client.exists('leasehold:i1:state:k')]).toEqual(
        [
          [30, 0],
          [0, 1],
          [30, 1],
        ][version],
      );
    }
    const loaded = await state.load('k', lease, [...all, message('other')]);
    if (loaded.is === 'loaded') expect([...loaded.marks.keys()]).toEqual(all.map(({ id }) => id));
    expect(loaded.is).toBe('loaded');
    await state.close();
  });

  test('what was remembered of a state that was removed is not taken for a new one’s', async () => {
    const state = await open();
    const some = (name: string) => Array.from({ length: 60 }, (_, at) => message(`${name}-${at}`));
    await state.commit(commit('k', 0, some('old')));
    expect(await client.exists('leasehold:i1:state:k')).toBe(1);
    await client.del('state:k');
    const version = { is: 'committed', version: 1 };
    expect(await state.commit(commit('k', 0, some('new')))).toEqual(version);
    expect(await state.commit(commit('k', 1, some('old')))).toMatchObject({ is: 'committed' });
    await state.close();
  });

  test('when ids are gone too early, messages from before are too old, and not applied twice', async () => {
    const state = await open();
    const at = Date.now() - 60_000;
    const some = Array.from({ length: 60 }, (_, index) => message(`m-${index}`, at));
    await state.commit(commit('k', 0, some));
    await state.commit(commit('k', 1, [message('young', at)]));
    await client.del('leasehold:i1:state:k');
    const lost = message('m-7', at);
    const tooOld = { is: 'too-old', ids: ['m-7'] };
    expect(await state.commit(commit('k', 2, [lost]))).toEqual(tooOld);
    // It stands in the state itself.
    const young = await state.commit(commit('k', 2, [message('young', at)]));
    expect(young).toMatchObject({ is: 'known' });
    expect(await state.commit(commit('k', 2, [message('b')]))).toMatchObject({ is: 'committed' });
    expect(await state.commit(commit('k', 3, [lost]))).toEqual(tooOld);
    const gone = await state.commit(commit('k', 3, [message('young', at)]));
    expect(gone.is).not.toBe('committed');
    await state.close();
  });

  test('the same when they were gone before messages were loaded', async () => {
    const state = await open();
    const at = Date.now() - 60_000;
    const some = Array.from({ length: 60 }, (_, index) => message(`m-${index}`, at));
    await state.commit(commit('k', 0, some));
    await client.del('leasehold:i1:state:k');
    const lost = [message('m-7', at)];
    expect(await state.load('k', lease, lost)).toMatchObject({ is: 'loaded', marks: new Map() });
    expect(await state.commit(commit('k', 1, lost))).toEqual({ is: 'too-old', ids: ['m-7'] });
    await state.close();
  });

  test('messages that were loaded are looked for again only where that has a reason', async () => {
    const state = await open();
    const loaded = async (messages: ReturnType<typeof message>[]) => {
      expect(await state.load('k', lease, messages)).toMatchObject({ marks: new Map() });
      return messages;
    };
    const other = await loaded([message('applied')]);
    const dead = [message('dead')];
    await state.commit(commit('k', 0, [message('applied')]));
    expect(await state.commit(commit('k', 1, other))).toMatchObject({ is: 'known' });
    await state.commit(commit('j', 0, [message('elsewhere')]));
    const elsewhere = await loaded([message('elsewhere')]);
    expect(await state.commit(commit('j', 1, elsewhere))).toMatchObject({ is: 'known' });
    const others = redisState(client, { ...PATIENT, windowMs: HOUR_MS, prefix: 'other:' });
    await others.open();
    const there = [message('there')];
    await others.commit(commit('k', 0, there));
    expect(await others.commit(commit('k', 1, await loaded([...there])))).toMatchObject({
      is: 'known',
    });
    await others.close();
    await loaded(dead);
    await state.markDead('k', [message('dead')]);
    const marks = new Map([['dead', 'dead-lettered']]);
    expect(await state.commit(commit('k', 1, dead))).toEqual({ is: 'known', marks });
    // Ids that are evicted after the load are in nobody's way.
    const some = Array.from({ length: 60 }, (_, index) => message(`m-${index}`));
    await state.commit(commit('k', 1, some));
    const more = await loaded(Array.from({ length: 60 }, (_, index) => message(`n-${index}`)));
    await client.del('leasehold:i1:state:k');
    expect(await state.commit(commit('k', 2, more))).toMatchObject({ is: 'committed' });
    expect(await state.load('k', lease, more)).toMatchObject({
      marks: new Map(more.map(({ id }) => [id, 'applied'])),
    });
    await state.close();
  });

  test('a key that holds something else fails alone', async () => {
    const state = await open();
    await client.set('state:data', 'of somebody else');
    const outcomes = await Promise.allSettled([
      state.commit(commit('a', 0, [message('1')])),
      state.load('data', lease, []),
      state.commit(commit('b', 0, [message('1')])),
    ]);
    expect(outcomes.map(({ status }) => status)).toEqual(['fulfilled', 'rejected', 'fulfilled']);
    expect(String(outcomes[1]?.status === 'rejected' && outcomes[1].reason)).toMatch(
      /WRONGTYPE.*state:data/,
    );
    await state.close();
  });

  test.each(['leasehold:i1:state:k', 'leasehold:d:state:k'])(
    'where %s holds something else, nothing is written before that is found out',
    async (besides) => {
      const state = await open();
      const ids = Array.from({ length: 60 }, (_, index) => message(`m-${index}`));
      await state.commit(commit('k', 0, ids));
      await state.markDead('k', [message('dead')]);
      await client.set(besides, 'of somebody else');
      const before = await client.hgetall('state:k');
      const later = tokenOf(10n ** 18n + 1n);
      const fresh = [message('new')];
      await expect(state.load('k', later, fresh)).rejects.toThrow(/WRONGTYPE/);
      const made = state.commit({ ...commit('k', 1, fresh), lease: later });
      await expect(made).rejects.toThrow(/WRONGTYPE/);
      await expect(state.markDead('k', fresh)).rejects.toThrow(/WRONGTYPE/);
      expect(await client.hgetall('state:k')).toEqual(before);
      await state.close();
    },
  );

  test('marks of dead letters are looked for only while there may be some', async () => {
    const state = await open();
    expect(await state.markDead('k', [message('dead')])).toEqual(
      new Map([['dead', 'dead-lettered']]),
    );
    expect(await client.pttl('state:k')).toBeGreaterThan(0);
    const known = await state.commit(commit('k', 0, [message('dead')]));
    expect(known).toMatchObject({ is: 'known' });
    expect(await state.commit(commit('k', 0, [message('a')]))).toMatchObject({ is: 'committed' });
    expect(await client.pttl('state:k')).toBe(-1);
    expect((await recordOf(client, 'state:k')).mayHaveDead).toBe(true);
    // The last mark ends with the commit that applies its message.
    await state.commit(commit('k', 1, [message('dead', Date.now(), true)]));
    expect(await client.exists('leasehold:d:state:k')).toBe(0);
    await state.commit(commit('k', 2, [message('b')]));
    expect((await recordOf(client, 'state:k')).mayHaveDead).toBe(false);
    await state.close();
  });

  test('a window that is made longer does not judge what was forgotten in the shorter one', async () => {
    const [short, long] = [await open(1_000), await open()];
    let [early, version] = [message('a'), 0];
    // What takes too long on its way is refused for its age.
    const isCommitted = async (one: ReturnType<typeof message>): Promise<boolean> => {
      const { is } = await short.commit(commit('k', version, [one]));
      if (is === 'committed') version += 1;
      else expect(is).toBe('too-old');
      return is === 'committed';
    };
    await until('it is there', () => {
      early = message('a', Date.now() - 500);
      return isCommitted(early);
    });
    await until('it is forgotten', async () => {
      await isCommitted(message(`other-${version}`));
      const loaded = await short.load('k', lease, [message('a', 0)]);
      return loaded.is === 'loaded' && loaded.marks.size === 0;
    });
    const again = await long.commit(commit('k', version, [early]));
    expect(again).toEqual({ is: 'too-old', ids: ['a'] });
    await Promise.all([short.close(), long.close()]);
  });
});
