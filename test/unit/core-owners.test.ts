import { AcquireTimeoutError } from 'leasehold';
import { describe, expect, it } from 'vitest';
import { Bench, granted } from './core-bench.ts';

/** All digits, as one nonce in some hundred is. */
const NONCE = '123456789012';

describe('owner values', () => {
  it('are the identity and a count, with a colon in between', async () => {
    const owners: string[] = [];
    for (const identity of ['web', 'web1', 'web:1']) {
      const bench = new Bench({ identity });
      for (const key of ['a', 'b']) bench.locks.acquire(key).catch(() => {});
      await (await bench.next('open')).answer(undefined);
      for (const _ of ['a', 'b']) owners.push((await bench.next('claim')).claim.owner);
      void bench.locks.close();
    }
    // Without the colon, `web` and its twelfth are `web1` and its second.
    expect(owners).toEqual(['web:1', 'web:2', 'web1:1', 'web1:2', 'web:1:1', 'web:1:2']);
  });
});

describe('the name of a holder', () => {
  /** What is said of whoever holds the key. */
  async function nameOf(holder: string): Promise<AcquireTimeoutError> {
    const bench = new Bench();
    const waits = bench.locks.acquire('k', { waitMs: 500 }).catch((error: unknown) => error);
    await (await bench.next('open')).answer(undefined);
    const waiting = { is: 'waiting', lookAgainMs: 60_000, ahead: 0, holder, epoch: 5n } as const;
    await (await bench.next('claim')).answer(waiting);
    await bench.advance(500);
    const error = await waits;
    expect(error).toBeInstanceOf(AcquireTimeoutError);
    void bench.locks.close();
    return error as AcquireTimeoutError;
  }

  it.each([
    [`host:4121:${NONCE}:5`, 'host:4121'],
    [`host:4121:${NONCE}:9a`, 'host:4121'],
    ['host:4121:n0nce:1', 'host:4121'],
    ['a:b:4121:n0nce:1', 'a:b:4121'],
    ['host:4121:1', 'host:4121'],
    ['web:1', 'a foreign client'],
    [NONCE, 'a foreign client'],
  ])('%s is %s', async (owner, name) => {
    const { holder, message } = await nameOf(owner);
    expect(holder).toBe(name);
    expect(message).toContain(`held by ${name},`);
    expect(message).not.toContain(NONCE);
  });

  it.each([
    [`host:4121:${NONCE}`, 'host:4121'],
    ['host:4121:n0nce', 'host:4121'],
    ['host:4121', 'host:4121'],
    ['web', 'a foreign client'],
  ])('%s of this process is %s', async (identity, name) => {
    const bench = new Bench({ identity });
    const held = bench.locks.acquire('k', { ttlMs: 10_000 });
    await (await bench.next('open')).answer(undefined);
    const asked = await bench.next('claim');
    await asked.answer(granted(asked.claim, 5n));
    await held;
    const waits = bench.locks.acquire('k', { waitMs: 500 });
    const refused = expect(waits).rejects.toMatchObject({ holder: name });
    await bench.advance(500);
    await refused;
    void bench.locks.close();
  });
});
