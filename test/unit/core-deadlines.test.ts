import { type Lease, LeaseLostError } from 'leasehold';
import { describe, expect, it } from 'vitest';
import { Bench, granted } from './core-bench.ts';

const TTL_MS = 10_000;
/** One per cent for clocks that run at different rates, and two for coarse expiry. */
const VALID_MS = 9_898;

async function heldBench(answerAfterMs = 0): Promise<{ bench: Bench; lease: Lease }> {
  const bench = new Bench({ ttlMs: TTL_MS });
  const acquired = bench.locks.acquire('k');
  await (await bench.next('open')).answer(undefined);
  const claim = await bench.next('claim');
  await bench.advance(answerAfterMs);
  await claim.answer(granted(claim.claim, 1n));
  return { bench, lease: await acquired };
}

describe('a lease', () => {
  it('is valid from before the claim was sent, not from its answer', async () => {
    const { lease } = await heldBench(600);
    expect(lease.remainingMs()).toBe(VALID_MS - 600);
  });

  it('is claimed again when its answer comes after its end', async () => {
    const bench = new Bench({ ttlMs: TTL_MS });
    const acquired = bench.locks.acquire('k');
    await (await bench.next('open')).answer(undefined);
    const claim = await bench.next('claim');
    await bench.advance(VALID_MS - 0.5);
    await claim.answer(granted(claim.claim, 1n));
    await bench.advance(1_000);
    const second = await bench.next('claim');
    expect(second.claim.owner).toBe(claim.claim.owner);
    await second.answer(granted(second.claim, 2n));
    expect((await acquired).token).toBe(2n * 4096n);
  });

  it('aborts its signal at its deadline although no call is ever answered', async () => {
    const { bench, lease } = await heldBench();
    const { signal } = lease;
    await bench.advance(VALID_MS - 5);
    expect(signal.aborted).toBe(false);
    await bench.advance(10);
    expect(signal.aborted).toBe(true);
    expect(signal.reason).toMatchObject({ code: 'LEASE_LOST', reason: 'expired' });
    expect(() => lease.assertHeld()).toThrow(LeaseLostError);
  });

  it('is in jeopardy while its renewal is not answered, and recovers with the answer', async () => {
    const { bench, lease } = await heldBench();
    await bench.advance(TTL_MS * 0.6);
    expect(lease.state).toBe('jeopardy');
    const renewal = await bench.next('renew');
    await renewal.answer([{ is: 'held', wanted: false }]);
    // The answer counts from the sending of the renewal, at a third of the ttl.
    expect(lease.state).toBe('held');
    expect(lease.remainingMs()).toBeLessThanOrEqual(VALID_MS - TTL_MS * 0.25);
    expect(lease.remainingMs()).toBeGreaterThan(VALID_MS - TTL_MS * 0.4);
  });

  it('is not extended by a renewal that failed', async () => {
    const { bench, lease } = await heldBench();
    await bench.advance(TTL_MS * 0.4);
    const before = lease.remainingMs();
    await (await bench.next('renew')).fail();
    expect(lease.remainingMs()).toBe(before);
  });

  it('is not valid after its machine slept, although the monotonic clock stood still', async () => {
    const { bench, lease } = await heldBench();
    bench.clock.sleep();
    await bench.advance(TTL_MS);
    bench.clock.wake();
    expect(lease.remainingMs()).toBe(0);
    expect(() => lease.assertHeld()).toThrow(LeaseLostError);
  });

  it('does not live longer when the wall clock is set back', async () => {
    const { bench, lease } = await heldBench();
    bench.clock.jumpWall(-3_600_000);
    await bench.advance(1_000);
    expect(lease.remainingMs()).toBe(VALID_MS - 1_000);
  });
});
