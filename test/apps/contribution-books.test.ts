import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { type Books, openBooks } from '../../dist/apps/contribution/books.js';
import { StaleTokenError } from '../../dist/apps/contribution/ledger.js';
import type { Delivery } from '../../dist/apps/contribution/queue.js';
import { exitCodeOf, judge } from '../../dist/apps/contribution/verdict.js';
import { WAYS } from '../../dist/apps/contribution/ways.js';

let folder: string;
let books: Books;

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'leasehold-books-'));
  books = openBooks(folder);
});

afterEach(async () => {
  await books.close();
  rmSync(folder, { recursive: true });
});

function token(value: number): string {
  return String(value).padStart(20, '0');
}

async function publish(...amounts: number[]): Promise<void> {
  await books.queue.publish(
    amounts.map((cents) => ({ account: 'maria', cents: BigInt(cents) })),
    0,
  );
}

async function takeOne(instance: number): Promise<Delivery> {
  const [delivery] = (await books.queue.take(instance, 1)) ?? [];
  if (!delivery) throw new Error('nothing to take');
  return delivery;
}

async function add(delivery: Delivery, fence: string | null): Promise<void> {
  const { cents, contributions } = await books.ledger.read(delivery.account, fence);
  const total = { cents: cents + delivery.cents, contributions: contributions + 1 };
  await books.ledger.commit(delivery, total, fence);
}

describe('the queue', () => {
  it('delivers in order of arrival, to one instance each, until everything is acknowledged', async () => {
    await publish(1, 2, 3);
    const first = (await books.queue.take(1, 2)) ?? [];
    const second = (await books.queue.take(2, 2)) ?? [];
    expect([first, second].map((taken) => taken.map(({ cents }) => cents))).toEqual([
      [1n, 2n],
      [3n],
    ]);
    expect(await books.queue.take(1, 2)).toEqual([]);
    expect(books.queue.remaining()).toBe(3);
    for (const delivery of [...first, ...second]) await add(delivery, null);
    expect(books.queue.remaining()).toBe(0);
    expect(await books.queue.take(1, 2)).toBe(null);
  });

  it('delivers again what a dead instance had not acknowledged, and nothing of another', async () => {
    await publish(1, 2, 3, 4);
    const [done] = (await books.queue.take(1, 2)) ?? [];
    await books.queue.take(2, 1);
    await add(done as Delivery, null);
    expect(await books.queue.putBackAllOf(1)).toBe(1);
    expect(await books.queue.putBackAllOf(1)).toBe(0);
    const again = (await books.queue.take(3, 9)) ?? [];
    expect(again.map(({ cents }) => cents)).toEqual([2n, 4n]);
  });

  it('keeps a message away that was acknowledged before it was put back', async () => {
    await publish(1);
    const delivery = await takeOne(1);
    await add(delivery, null);
    await books.queue.putBack(delivery);
    expect(await books.queue.take(1, 1)).toBe(null);
  });

  it('gives up on a message that is delivered over and over', async () => {
    await publish(1);
    for (let time = 0; time < 100; time++) await books.queue.putBack(await takeOne(1));
    await expect(takeOne(1)).rejects.toThrow('message 0 was delivered 100 times in vain');
  });

  it('takes any account that the input allows', async () => {
    const accounts = [
      '\u0000',
      '\u0001a',
      '__proto__',
      'é'.repeat(200),
      '😀'.repeat(100),
      ' ',
      '7',
    ];
    await books.queue.publish(
      accounts.map((account) => ({ account, cents: 5n })),
      0,
    );
    for (const delivery of (await books.queue.take(1, 99)) ?? []) await add(delivery, null);
    expect([...books.ledger.totals().keys()].sort()).toEqual([...accounts].sort());
  });
});

describe('the ledger', () => {
  it('adds an amount once, however often its message is delivered', async () => {
    await publish(700);
    const first = await takeOne(1);
    await books.queue.putBackAllOf(1);
    const second = await takeOne(2);
    await add(second, token(2));
    await add(first, token(3));
    expect(books.ledger.totals()).toEqual(new Map([['maria', { cents: 700n, contributions: 1 }]]));
  });

  it('refuses the write of a lease whose successor has only read so far', async () => {
    await publish(1, 2);
    const [slow, quick] = (await books.queue.take(1, 2)) as [Delivery, Delivery];
    const seenBySlow = await books.ledger.read('maria', token(7));
    await books.ledger.read('maria', token(8));
    const total = { cents: seenBySlow.cents + slow.cents, contributions: 1 };
    await expect(books.ledger.commit(slow, total, token(7))).rejects.toThrow(StaleTokenError);
    await add(quick, token(8));
    expect(books.ledger.totals().get('maria')).toEqual({ cents: 2n, contributions: 1 });
    // Nothing of the refused commit is done: the message is still there to be delivered again.
    expect(books.queue.remaining()).toBe(1);
  });

  it('refuses the read of a stale lease', async () => {
    await books.ledger.read('maria', token(8));
    await expect(books.ledger.read('maria', token(7))).rejects.toThrow(StaleTokenError);
  });

  it('is exact beyond the whole numbers that a float holds', async () => {
    const most = 1_000_000_000_000;
    const count = 10_000;
    await books.queue.publish(
      Array.from({ length: count }, () => ({ account: 'maria', cents: BigInt(most) })),
      0,
    );
    for (const delivery of (await books.queue.take(1, count - 1)) ?? []) {
      const done = {
        cents: BigInt(most) * BigInt(delivery.id + 1),
        contributions: delivery.id + 1,
      };
      if (delivery.id === count - 2) await books.ledger.commit(delivery, done, null);
    }
    await add(await takeOne(1), null);
    expect(books.ledger.totals().get('maria')?.cents).toBe(BigInt(most) * BigInt(count));
  });
});

describe('the verdict', () => {
  const right = new Map([
    ['a', { cents: 10n, contributions: 2 }],
    ['b', { cents: 5n, contributions: 1 }],
  ]);

  it('is exact only when every account is, and nothing is left', () => {
    expect(judge(right, new Map(right), 0).exact).toBe(true);
    expect(judge(right, new Map(right), 1).exact).toBe(false);
    const none = judge(new Map(), new Map(), 0);
    expect(none).toMatchObject({ exact: true, messages: 0, accounts: 0 });
  });

  it('sees errors that cancel each other out in the sum', () => {
    const swapped = new Map([
      ['a', { cents: 9n, contributions: 2 }],
      ['b', { cents: 6n, contributions: 1 }],
    ]);
    const verdict = judge(right, swapped, 0);
    expect(verdict).toMatchObject({ exact: false, wrongAccounts: 2, lost: 0 });
    expect(verdict.actualCents).toBe(verdict.expectedCents);
  });

  it('counts lost and doubled contributions, missing accounts and unknown ones', () => {
    const actual = new Map([
      ['a', { cents: 15n, contributions: 4 }],
      ['c', { cents: 0n, contributions: 0 }],
    ]);
    expect(judge(right, actual, 0)).toMatchObject({ accounts: 3, wrongAccounts: 3, lost: -1 });
  });

  it('fails the run for a wrong total with Leasehold, and for no other way', () => {
    const exact = judge(right, new Map(right), 0);
    const wrong = judge(right, new Map(), 0);
    const rows = (verdictOf: (decisive: boolean) => typeof exact) =>
      WAYS.map((way) => ({ way, verdict: verdictOf(way.decisive === true) }));
    expect(exitCodeOf(rows(() => exact))).toBe(0);
    expect(exitCodeOf(rows((decisive) => (decisive ? exact : wrong)))).toBe(0);
    expect(exitCodeOf(rows((decisive) => (decisive ? wrong : exact)))).toBe(1);
    expect(WAYS.filter((way) => way.decisive).map((way) => way.guard)).toEqual(['leasehold']);
  });
});
