/**
 * Waits until replicas have what a connection wrote. `WAIT` covers all that went over its own connection before it, and
 * nothing that went over another one.
 */
import type { RedisClient } from './clients/client.ts';
import { within } from './within.ts';

export interface ReplicaSettings {
  /** 0: nobody is waited for. */
  readonly minReplicas: number;
  readonly replicaTimeoutMs: number;
  readonly requestTimeoutMs: number;
}

export class Replicas {
  readonly #client: RedisClient;
  readonly #settings: ReplicaSettings;
  /** The request that is about to be sent, for all who ask in this turn. */
  #next: Promise<number> | null = null;

  constructor(client: RedisClient, settings: ReplicaSettings) {
    this.#client = client;
    this.#settings = settings;
    if (settings.minReplicas > 0) client.countConnections();
  }

  /**
   * Call it when the answer to a write is there, with the count of connections from before it was sent. Rejects unless
   * enough replicas have the write: whether it lasts is unknown then.
   */
  async confirm(connectionsBefore: number): Promise<void> {
    const { minReplicas, replicaTimeoutMs } = this.#settings;
    if (minReplicas === 0) return;
    this.#next ??= this.#wait();
    const replicas = await this.#next;
    if (this.#client.connections !== connectionsBefore) {
      throw new Error('the connection was lost before the replicas could answer for what it wrote');
    }
    if (replicas < minReplicas) {
      throw new Error(
        `${replicas} of ${minReplicas} replicas had it within ${replicaTimeoutMs} ms; ` +
          'bring replicas back, or lower minReplicas',
      );
    }
  }

  async #wait(): Promise<number> {
    // The answers to many writes arrive in one turn, and one request covers them all.
    await new Promise<void>((resolve) => {
      setImmediate(resolve);
    });
    this.#next = null;
    const { minReplicas, replicaTimeoutMs, requestTimeoutMs } = this.#settings;
    const args = ['WAIT', String(minReplicas), String(replicaTimeoutMs)];
    const sent = this.#client.command(args);
    return Number(await within(sent, replicaTimeoutMs + requestTimeoutMs, 'WAIT'));
  }
}
