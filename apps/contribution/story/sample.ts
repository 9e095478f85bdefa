/**
 * The bundled sample: 20,000 contributions over 50 accounts, and three lines that are not contributions.
 *
 * It is made the same each time: `node dist/apps/contribution/make-sample.js > apps/contribution/sample.ndjson`.
 */

export const SAMPLE_CONTRIBUTIONS = 20_000;
const ACCOUNTS = 50;
/** How much busier the busiest accounts are; 0 would be all the same. The first one gets some 8 percent. */
const SKEW = 0.5;
const SEED = 20_260_101;

/** By the number of the line that they come to stand on. */
const BAD_LINES: ReadonlyMap<number, string> = new Map([
  [812, '{"id":"c-bad-1","account":"account-07","amount":1.5}'],
  [7_003, '{"id":"c-bad-2","account":"account-21","amo'],
  [15_240, '{"id":"c-bad-3","amount":990}'],
]);

export function* sampleLines(): Generator<string> {
  const random = mulberry32(SEED);
  const pickAccount = skewed(random);
  let made = 0;
  for (let line = 1; made < SAMPLE_CONTRIBUTIONS; line++) {
    const bad = BAD_LINES.get(line);
    if (bad !== undefined) {
      yield bad;
      continue;
    }
    made += 1;
    const id = `c-${String(made).padStart(5, '0')}`;
    const account = `account-${String(pickAccount()).padStart(2, '0')}`;
    // Most are small and a few are large, as gifts are: between 1.00 and 60.00, and one in fifty is taken back.
    const amount = 100 + Math.floor(random() * random() * 5_900);
    yield JSON.stringify({ id, account, amount: random() < 0.02 ? -amount : amount });
  }
}

/** Picks account numbers from 1, the first most often: weights that fall with a power of the rank. */
function skewed(random: () => number): () => number {
  const weights = Array.from({ length: ACCOUNTS }, (_, rank) => (rank + 1) ** -SKEW);
  const total = weights.reduce((sum, weight) => sum + weight, 0);
  return () => {
    let left = random() * total;
    const rank = weights.findIndex((weight) => {
      left -= weight;
      return left < 0;
    });
    return rank === -1 ? ACCOUNTS : rank + 1;
  };
}

/** A small generator of pseudo-random numbers in [0, 1), known as mulberry32. */
function mulberry32(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}
