/**
 * The engines of the application: the queue, the totals, and the locks, each on this machine or on a server.
 *
 * They are chosen by names that travel to the worker processes as JSON; each process opens its own.
 */
import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import type { LeaseStore } from 'leasehold';
import type { MessageSource, StateStore } from 'leasehold/consumer';
import { embedded, embeddedPublisher, embeddedSource, embeddedState } from 'leasehold/embedded';
import { publisher, rabbitmq } from 'leasehold/rabbitmq';
import { redis, redisState } from 'leasehold/redis';
import { redlock } from 'leasehold/redlock';
import { zookeeper } from 'leasehold/zookeeper';
import { type Contribution, encodeContribution, type Total, totalCodec } from './contribution.ts';
import { describe, type EngineNames } from './engine-names.ts';
import { eraseQueues, eraseTotals, type PlainTotals, plainEmbedded, plainRedis } from './plain.ts';

export interface ContributionPublisher {
  /** Resolves when the queue has it for good. What is published again under the same id counts once. */
  publish(id: string, contribution: Contribution): Promise<void>;
  close(): Promise<void>;
}

export class Engines {
  readonly names: EngineNames;
  /** For looking; the one of a consumer is its own. */
  readonly #state: StateStore;
  readonly #plain: PlainTotals;

  private constructor(names: EngineNames, state: StateStore, plain: PlainTotals) {
    this.names = names;
    this.#state = state;
    this.#plain = plain;
  }

  static async open(names: EngineNames): Promise<Engines> {
    const state = stateOf(names);
    await state.open();
    return new Engines(names, state, openPlain(names));
  }

  get description(): string {
    return describe(this.names);
  }

  async publisher(): Promise<ContributionPublisher> {
    const { amqp, scope, folder } = this.names;
    const to =
      amqp === null
        ? embeddedPublisher({ path: join(folder, 'queue'), queue: scope })
        : publisher({ url: amqp, queue: scope });
    return {
      async publish(id, contribution) {
        await to.publish({ id, content: encodeContribution(contribution) });
      },
      close: () => to.close(),
    };
  }

  async total(account: string): Promise<Total | null> {
    const text = await this.#state.peek(account);
    return text === null ? null : totalCodec.decode(text);
  }

  /** In words; `null` when the totals are within reach. */
  async whatIsMissing(): Promise<string | null> {
    try {
      await this.#state.peek('');
      return null;
    } catch {
      return 'the totals are out of reach';
    }
  }

  /** The totals of the consumer, or those without a fence. */
  async totals(isFenced: boolean, accounts: Iterable<string>): Promise<Map<string, Total>> {
    const totals = new Map<string, Total>();
    const read = async (account: string): Promise<void> => {
      const total = isFenced ? await this.total(account) : await this.#plain.read(account);
      if (total !== null && total.contributions > 0) totals.set(account, total);
    };
    await Promise.all([...accounts].map(read));
    return totals;
  }

  async close(): Promise<void> {
    await this.#state.close();
    await this.#plain.close();
  }

  /** Closes, and removes everything that has these names. */
  async erase(): Promise<void> {
    const { amqp, redis: url, folder, scope } = this.names;
    await this.close();
    await rm(folder, { recursive: true, force: true });
    if (url !== null) await eraseTotals(url, scope);
    if (amqp !== null) await eraseQueues(amqp, scope);
  }
}

/** The queue, for one worker. */
export function sourceOf({ amqp, folder, scope }: EngineNames, prefetch: number): MessageSource {
  if (amqp !== null) return rabbitmq({ url: amqp, queue: scope, prefetch });
  return embeddedSource({ path: join(folder, 'queue'), queue: scope, prefetch });
}

/** The totals that a consumer changes, each contribution once. */
export function stateOf({ redis: url, folder, scope }: EngineNames): StateStore {
  if (url !== null) return redisState(url, { prefix: totalPrefix(scope) });
  return embeddedState({ path: join(folder, 'totals') });
}

export function openPlain({ redis: url, folder, scope }: EngineNames): PlainTotals {
  if (url !== null) return plainRedis(url, `plain-${totalPrefix(scope)}`);
  return plainEmbedded(join(folder, 'plain'));
}

export function lockStoreOf({ redis: url, locks, folder }: EngineNames): LeaseStore {
  const chosen = locks ?? url;
  if (chosen === null) return embedded({ path: join(folder, 'locks') });
  if (chosen.startsWith('zookeeper:')) return zookeeper(chosen);
  if (chosen.includes(',redis')) return redlock(chosen.split(/,(?=rediss?:)/));
  return redis(chosen);
}

function totalPrefix(scope: string): string {
  return `contribution:${scope}:`;
}
