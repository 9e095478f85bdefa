import type { Lease } from 'leasehold';
import { describe, expect, it } from 'vitest';
import { Bench, granted, waiting } from './core-bench.ts';

const TTL_MS = 10_000;

/** A bench on which somebody waits for `k`, answered once with "wait" at epoch 5. */
async function waitingBench(
  options: { retainMs?: number } = {},
): Promise<{ bench: Bench; acquired: Promise<Lease>; owner: string }> {
  const bench = new Bench({ ttlMs: TTL_MS, ...options });
  const acquired = bench.locks.acquire('k');
  await (await bench.next('open')).answer(undefined);
  const claim = await bench.next('claim');
  await claim.answer(waiting(5n));
  return { bench, acquired, owner: claim.claim.owner };
}

describe('a grant message', () => {
  it('counts from the sending of the last claim that was answered', async () => {
    const { bench, acquired, owner } = await waitingBench();
    await bench.advance(100);
    const second = await bench.next('claim');
    await bench.advance(1_000);
    await second.answer(waiting(5n));
    await bench.advance(100);
    await bench.emit({ is: 'granted', key: 'k', owner, epoch: 6n, wanted: false });
    const lease = await acquired;
    // 9,898 ms of 10,000 may be trusted, and 1,100 are over since the second claim left.
    expect(lease.remainingMs()).toBeGreaterThan(8_700);
    expect(lease.remainingMs()).toBeLessThanOrEqual(8_798);
    expect(lease.token).toBe(6n * 4096n);
  });

  it('of an epoch that was over when the store said "wait" is not believed', async () => {
    const { bench, owner } = await waitingBench();
    await bench.emit({ is: 'granted', key: 'k', owner, epoch: 5n, wanted: false });
    expect(bench.locks.usage).toMatchObject({ leases: 0, waiting: 1 });
  });

  it('for an owner that gave up is answered with a drop', async () => {
    const bench = new Bench({ ttlMs: TTL_MS });
    const controller = new AbortController();
    const acquired = bench.locks.acquire('k', { signal: controller.signal });
    await (await bench.next('open')).answer(undefined);
    const claim = await bench.next('claim');
    await claim.answer(waiting(5n));
    controller.abort(new Error('enough'));
    await expect(acquired).rejects.toThrow('enough');
    await (await bench.next('drop')).answer({ held: false, next: null });

    const { owner } = claim.claim;
    await bench.emit({ is: 'granted', key: 'k', owner, epoch: 6n, wanted: false });
    const drop = await bench.next('drop');
    expect(drop.id.owner).toBe(owner);
    await drop.answer({ held: true, next: null });
    await bench.advance(TTL_MS);
    expect(bench.unanswered).toEqual([]);
    expect(bench.clock.pendingTimers()).toBe(0);
  });
});

describe('the wish of another process', () => {
  it('counts when its message overtakes the answer to the claim', async () => {
    const bench = new Bench({ ttlMs: TTL_MS, retainMs: 5_000 });
    const acquired = bench.locks.acquire('k');
    await (await bench.next('open')).answer(undefined);
    const claim = await bench.next('claim');
    await bench.emit({ is: 'wanted', key: 'k' });
    await claim.answer(granted(claim.claim, 6n));
    void (await acquired).release();
    await bench.next('drop');
  });

  it('counts when only an answer that its grant message overtook tells of it', async () => {
    const { bench, acquired, owner } = await waitingBench({ retainMs: 5_000 });
    await bench.advance(100);
    const overtaken = await bench.next('claim');
    await bench.emit({ is: 'granted', key: 'k', owner, epoch: 6n, wanted: false });
    const lease = await acquired;
    await overtaken.answer(granted(overtaken.claim, 6n, true));
    void lease.release();
    await bench.next('drop');
  });

  it('takes a retained lease at once', async () => {
    const bench = new Bench({ ttlMs: TTL_MS, retainMs: 5_000 });
    const acquired = bench.locks.acquire('k');
    await (await bench.next('open')).answer(undefined);
    const claim = await bench.next('claim');
    await claim.answer(granted(claim.claim, 6n));
    await (await acquired).release();
    expect(bench.unanswered).toEqual([]);
    await bench.emit({ is: 'wanted', key: 'k' });
    expect((await bench.next('drop')).id.owner).toBe(claim.claim.owner);
  });
});

describe('passes while another process waits', () => {
  async function passesOf(bench: Bench): Promise<number> {
    let passes = -1;
    const work = async (): Promise<void> => {
      passes += 1;
    };
    for (let caller = 0; caller < 200; caller += 1) void bench.locks.withLock('k', work);
    await (await bench.next('open')).answer(undefined);
    const claim = await bench.next('claim');
    await claim.answer(granted(claim.claim, 6n, true));
    expect(bench.unanswered).toEqual(['drop']);
    return passes;
  }

  it.each([
    [{}, {}, 32],
    [{ maxPasses: 96 }, {}, 96],
    [{ maxPasses: 96 }, { fairness: {} }, 96],
    [{ maxPasses: 96 }, { fairness: { maxPasses: 3 } }, 3],
  ] as const)(
    'are bounded by the store, or by who asks: %j, %j, %i',
    async (store, asked, bound) => {
      expect(await passesOf(new Bench(asked, store))).toBe(bound);
    },
  );
});
