/**
 * Brings nodes back that have lost what they granted. Such a node abstains for the longest ttl in use, so that every
 * lease that it may have forgotten is over; then it takes over the highest epoch from the others, and votes again.
 *
 * The epochs are read after the abstention has ended, not before: a claim that the node had accepted before it lost its
 * data can still be accepted by others meanwhile, but not for longer than its ttl.
 */
import type { RedlockNode, Standing } from './node.ts';

/** Between two looks at nodes that abstain, in milliseconds. */
const LOOK_AGAIN_FLOOR_MS = 20;
const LOOK_AGAIN_CEILING_MS = 1_000;

export class Recovery {
  readonly #nodes: readonly RedlockNode[];
  /** So many of the others share a node with every majority that the node was part of. */
  readonly #witnesses: number;
  readonly #durable: boolean;
  #running: Promise<void> | null = null;
  #againAtMs = 0;

  constructor(nodes: readonly RedlockNode[], quorum: number, durable: boolean) {
    this.#nodes = nodes;
    this.#witnesses = nodes.length - quorum + 1;
    this.#durable = durable;
  }

  /** A node was heard to abstain. Never rejects; whoever needs the node asks again. */
  start(): Promise<void> {
    if (this.#running === null && performance.now() < this.#againAtMs) return Promise.resolve();
    this.#running ??= this.#recover().finally(() => {
      this.#running = null;
    });
    return this.#running;
  }

  async #recover(): Promise<void> {
    this.#againAtMs = performance.now() + LOOK_AGAIN_FLOOR_MS;
    const first = await this.#inquire();
    const abstaining = [...first].filter(([, { state }]) => state !== 'votes');
    if (abstaining.length === 0) return;
    const isNew = this.#durable && this.#isEveryNodeNew(first);
    const waiting = abstaining
      .map(([, { abstainsMs }]) => abstainsMs)
      .filter((leftMs) => leftMs > 0);
    if (waiting.length > 0 && !isNew) {
      const leftMs = Math.min(...waiting, LOOK_AGAIN_CEILING_MS);
      this.#againAtMs = performance.now() + Math.max(leftMs, LOOK_AGAIN_FLOOR_MS);
    }
    const ready = abstaining.filter(([, { abstainsMs }]) => abstainsMs === 0 || isNew);
    if (ready.length === 0) return;
    const second = await this.#inquire();
    for (const [node, { runId }] of ready) await this.#readmit(node, runId, second, isNew);
  }

  async #readmit(
    node: RedlockNode,
    runId: string,
    all: ReadonlyMap<RedlockNode, Standing>,
    isNew: boolean,
  ): Promise<void> {
    const others = [...all].filter(([other]) => other !== node).map(([, standing]) => standing);
    const witnesses = others.filter(({ state }) => state === 'votes');
    // With fewer, those that are left say what they still know, once all have said it: nobody knows more.
    const enough = witnesses.length >= this.#witnesses || all.size === this.#nodes.length;
    if (!enough) return;
    const state = 'votes';
    const longestTtlMs = Math.max(...others.map((other) => other.longestTtlMs));
    const highestEpoch = Math.max(...others.map((other) => other.highestEpoch));
    const facts: Standing = { state, runId, abstainsMs: 0, longestTtlMs, highestEpoch };
    // Unanswered, it is found to abstain again.
    await node.readmit(facts, isNew).catch(() => {});
  }

  /** Durable nodes that have no marker, none of them, have never granted anything. */
  #isEveryNodeNew(standings: ReadonlyMap<RedlockNode, Standing>): boolean {
    if (standings.size < this.#nodes.length) return false;
    return [...standings.values()].every(({ state }) => state === 'new');
  }

  /** What those say that answer. */
  async #inquire(): Promise<Map<RedlockNode, Standing>> {
    const standings = new Map<RedlockNode, Standing>();
    const asked = this.#nodes.map(async (node) => {
      standings.set(node, await node.inquire());
    });
    await Promise.allSettled(asked);
    return standings;
  }
}
