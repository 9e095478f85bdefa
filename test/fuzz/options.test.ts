/** Whatever is given to the public face: it works, or says with a typed error what is wrong. */
import fc from 'fast-check';
import { InvalidArgumentError, LockManager, type LockManagerOptions, systemClock } from 'leasehold';
import { embedded } from 'leasehold/embedded';
import { memory } from 'leasehold/memory';
import { fenced, redis } from 'leasehold/redis';
import { describe, expect, test } from 'vitest';
import { type Any, anyValue, fieldsOf, nearUrls, optionsOf } from './arbitraries.ts';
import { nothingEscapes, typedErrorOf } from './settled.ts';

nothingEscapes();

const anyKey = fc.oneof(
  fc.constantFrom<unknown>(
    '',
    'k',
    '\u0000',
    '\ud800',
    'x'.repeat(512),
    'x'.repeat(513),
    [],
    ['k'],
  ),
  fc.string({ unit: 'binary' }),
  fc.array(fc.oneof(fc.string(), anyValue), { maxLength: 4 }),
  anyValue,
);
const ACQUIRE = ['ttlMs', 'retainMs', 'maxHoldMs', 'mode', 'limit', 'waitMs', 'signal'];
const MANAGER = ['ttlMs', 'retainMs', 'maxHoldMs', 'waitMs', 'fairness', 'random', 'identity'];

describe('a manager', () => {
  test.each(['acquire', 'tryAcquire', 'withLock'] as const)('%s', async (name) => {
    const property = fc.asyncProperty(anyKey, optionsOf(...ACQUIRE), async (key, options) => {
      const locks = new LockManager({ store: memory() });
      const held: { release(): Promise<void> }[] = [];
      await typedErrorOf(async () => {
        if (name === 'withLock') await locks.withLock(key as Any, options as Any, () => {});
        else held.push((await locks[name](key as Any, options as Any)) as Any);
      });
      for (const lease of held) await lease?.release();
      await locks.close();
    });
    await fc.assert(property, { numRuns: 400 });
  });

  test('the work of withLock', async () => {
    const locks = new LockManager({ store: memory() });
    const property = fc.asyncProperty(anyValue, async (work) => {
      await typedErrorOf(() => locks.withLock('k', work as Any));
    });
    await fc.assert(property);
    await locks.close();
  });

  test('its own options, which are used afterwards', async () => {
    const property = fc.asyncProperty(fieldsOf('store', 'clock', ...MANAGER), async (options) => {
      await typedErrorOf(async () => {
        const locks = new LockManager({ store: memory(), ...options } as LockManagerOptions);
        try {
          await locks.withLock('k', { waitMs: 20 }, () => {});
        } finally {
          await locks.close();
        }
      });
      await typedErrorOf(() => new LockManager(options as Any));
    });
    await fc.assert(property, { numRuns: 500 });
    await fc.assert(
      fc.asyncProperty(anyValue, async (options) => {
        await typedErrorOf(() => new LockManager(options as Any));
      }),
    );
  });

  test('close', async () => {
    const property = fc.asyncProperty(optionsOf('graceMs'), async (options) => {
      const locks = new LockManager({ store: memory() });
      if (await typedErrorOf(() => locks.close(options as Any))) await locks.close();
    });
    await fc.assert(property);
  });

  test.each([{}, 5, 0, '', 'soon', [], { aborted: false }, { aborted: true }])(
    'a signal that is none: %j',
    async (signal) => {
      const locks = new LockManager({ store: memory() });
      for (const keys of ['k', ['k', 'l']]) {
        const error = await typedErrorOf(() => locks.acquire(keys as Any, { signal } as Any));
        expect(error).toBeInstanceOf(InvalidArgumentError);
        expect(error?.message).toBe('give an AbortSignal');
      }
      expect(locks.usage).toEqual({ keys: 0, leases: 0, waiting: 0 });
      await locks.close();
    },
  );

  test.each([
    [{ clock: {} }, 'give a clock'],
    [{ clock: null }, 'give a clock'],
    [{ clock: { ...systemClock, wallMs: 5 } }, 'give a clock'],
    [{ random: 5 }, 'give a function random'],
    [{ identity: 5 }, /^identity is /],
    [{ identity: '' }, /^identity is /],
    [{ identity: '\ud800' }, /^identity is /],
    [{ identity: 'x'.repeat(513) }, /^identity is /],
  ])('what is for simulations, and is wrong: %j', async (options, message) => {
    const error = await typedErrorOf(() => new LockManager({ store: memory(), ...options } as Any));
    expect(error).toBeInstanceOf(InvalidArgumentError);
    expect(error?.message).toMatch(message);
  });
});

describe('stores', () => {
  const STORE_OPTIONS = ['prefix', 'requestTimeoutMs', 'minReplicas', 'replicaTimeoutMs'];
  const client = { options: {}, evalsha() {}, duplicate() {}, on() {}, off() {} };
  const anyUrl = nearUrls('redis:', 'rediss:', 'redis+sentinel:', 'rediss+sentinel:');

  test('redis: addresses, clients and options', async () => {
    const property = fc.asyncProperty(
      fc.oneof(anyUrl, fc.constant(client)),
      optionsOf(...STORE_OPTIONS),
      async (from, options) => {
        await typedErrorOf(() => redis(from as Any, options as Any));
      },
    );
    await fc.assert(property, { numRuns: 1_000 });
  });

  test('fences', async () => {
    const property = fc.asyncProperty(
      optionsOf('prefix', 'memoryMs', 'requestTimeoutMs'),
      async (options) => {
        await typedErrorOf(() => fenced(client as Any, options as Any));
      },
    );
    await fc.assert(property);
  });

  test('fenced reads and writes, of which only right ones are sent', async () => {
    const sent: unknown[][] = [];
    const listener = {
      ...client,
      evalsha: async (...args: unknown[]) => {
        sent.push(args);
        return ['ok', 1, null];
      },
    };
    const values = fenced(listener as Any);
    const lease = { tokenText: '7'.padStart(20, '0') };
    const anyLease = fc.oneof(fc.constant(lease), fc.record({ tokenText: anyValue }), anyValue);
    const text = fc.oneof(fc.string(), anyValue);
    const property = fc.asyncProperty(
      text,
      text,
      anyLease,
      optionsOf('ttlMs'),
      async (key, value, given, options) => {
        await typedErrorOf(() => values.get(key as Any, given as Any));
        await typedErrorOf(() =>
          values.set(key as Any, value as Any, given as Any, options as Any),
        );
        await typedErrorOf(() => values.compareAndSet('k', value as Any, 'v', lease));
        await typedErrorOf(() =>
          values.run(value as Any, [key] as Any, [value] as Any, given as Any),
        );
        await typedErrorOf(() => values.run('', key as Any, value as Any, lease));
        await typedErrorOf(() => values.reset(key as Any));
      },
    );
    await fc.assert(property, { numRuns: 500 });
    for (const [, , ...args] of sent) {
      for (const arg of args) expect(arg).toBeTypeOf('string');
    }
  });

  test('embedded', async () => {
    const property = fc.asyncProperty(
      optionsOf('path', 'requestTimeoutMs', 'openTimeoutMs'),
      async (options) => {
        await typedErrorOf(() => embedded(options as Any));
      },
    );
    await fc.assert(property);
  });

  test('memory', async () => {
    const property = fc.asyncProperty(anyValue, async (options) => {
      await typedErrorOf(() => (memory as (options: unknown) => unknown)(options));
    });
    await fc.assert(property);
  });
});
