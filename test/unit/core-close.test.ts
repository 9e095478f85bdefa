import { describe, expect, it } from 'vitest';
import { Bench, granted } from './core-bench.ts';

const LONG_MS = 60_000;

describe('close', () => {
  it('waits for a drop that is still to be made again', async () => {
    const bench = new Bench();
    const acquired = bench.locks.acquire('k');
    await (await bench.next('open')).answer(undefined);
    const claim = await bench.next('claim');
    await claim.answer(granted(claim.claim, 1n));
    await acquired;
    void bench.locks.close();
    await (await bench.next('drop')).fail();
    await bench.advance(20);
    expect(bench.unanswered).toEqual([]);
    await bench.advance(50);
    await (await bench.next('drop')).answer({ held: true, next: null });
    await bench.advance(50);
    await (await bench.next('close')).answer(undefined);
    await bench.locks.close();
  });

  it('closes a store that is still being opened', async () => {
    const bench = new Bench();
    const acquired = bench.locks.acquire('k');
    const refused = expect(acquired).rejects.toMatchObject({ code: 'MANAGER_CLOSED' });
    await bench.next('open');
    const closed = bench.locks.close();
    await refused;
    await bench.advance(LONG_MS);
    await (await bench.next('close')).answer(undefined);
    await closed;
  });

  it('is the end of a store that could not be opened: nothing opens it again', async () => {
    const bench = new Bench();
    const acquired = bench.locks.acquire('k');
    const refused = expect(acquired).rejects.toMatchObject({ code: 'MANAGER_CLOSED' });
    const opening = await bench.next('open');
    let isClosed = false;
    const closed = bench.locks.close().then(() => {
      isClosed = true;
    });
    await opening.fail();
    await refused;
    // Each attempt takes so long that they do not end before `close` stops waiting for them.
    for (let passedMs = 0; passedMs < LONG_MS && !isClosed; passedMs += 900) {
      await bench.advance(900);
      if (bench.unanswered.includes('close')) await (await bench.next('close')).answer(undefined);
      if (bench.unanswered.includes('open')) await (await bench.next('open')).fail();
    }
    await closed;
    const opened = bench.made.filter((name) => name === 'open').length;
    await bench.advance(LONG_MS);
    expect(bench.made.filter((name) => name === 'open').length).toBe(opened);
    expect(bench.clock.pendingTimers()).toBe(0);
  });
});
