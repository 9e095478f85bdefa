/**
 * Times in buckets whose width grows with them, so that a worker can send the distribution of a million waits.
 */

/** Buckets of a factor of ten. */
const BUCKETS_A_DECADE = 20;
/** The first bucket ends here, in milliseconds. */
const FIRST_MS = 0.001;
/** From a microsecond to a hundred seconds. */
const BUCKETS = 8 * BUCKETS_A_DECADE;

export type Buckets = number[];

export function newBuckets(): Buckets {
  return Array.from({ length: BUCKETS }, () => 0);
}

export function addTime(buckets: Buckets, timeMs: number): void {
  const at = Math.ceil(Math.log10(Math.max(timeMs, FIRST_MS) / FIRST_MS) * BUCKETS_A_DECADE);
  const index = Math.min(at, BUCKETS - 1);
  buckets[index] = (buckets[index] ?? 0) + 1;
}

export function mergeBuckets(all: readonly Buckets[]): Buckets {
  const sum = newBuckets();
  for (const buckets of all) {
    for (const [index, count] of buckets.entries()) sum[index] = (sum[index] ?? 0) + count;
  }
  return sum;
}

/** The upper end of the bucket of that share, in milliseconds: at most an eighth too long. */
export function quantileMs(buckets: Buckets, share: number): number {
  const total = buckets.reduce((sum, count) => sum + count, 0);
  let seen = 0;
  for (const [index, count] of buckets.entries()) {
    seen += count;
    if (seen > 0 && seen >= total * share) return endMs(index);
  }
  return Number.NaN;
}

/** Points (ms, share of times that are longer) for a plot with two logarithmic axes. */
export function tail(buckets: Buckets): [number, number][] {
  const total = buckets.reduce((sum, count) => sum + count, 0);
  const points: [number, number][] = [];
  let left = total;
  for (const [index, count] of buckets.entries()) {
    if (count === 0) continue;
    points.push([endMs(index), left / total]);
    left -= count;
  }
  return points;
}

function endMs(index: number): number {
  return FIRST_MS * 10 ** (index / BUCKETS_A_DECADE);
}
