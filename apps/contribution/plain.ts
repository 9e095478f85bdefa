/**
 * Totals without a fence, as the ways of the story without a shared lock have them; and what removes the story's traces
 * from servers.
 */
import amqplib from 'amqplib';
import { Redis } from 'ioredis';
import { open } from 'lmdb';
import { NOTHING, type Total, totalCodec } from './contribution.ts';

export interface PlainTotals {
  read(account: string): Promise<Total>;
  write(account: string, total: Total): Promise<void>;
  close(): Promise<void>;
}

export function plainEmbedded(path: string): PlainTotals {
  // See docs/adr/0040: overlapping sync has a lock that a killed process leaves behind broken.
  const environment = open<string, string>({ path, overlappingSync: false });
  return {
    async read(account) {
      const text = environment.get(account);
      return text === undefined ? NOTHING : totalCodec.decode(text);
    },
    async write(account, total) {
      await environment.put(account, totalCodec.encode(total));
    },
    close: () => environment.close(),
  };
}

export function plainRedis(url: string, prefix: string): PlainTotals {
  const client = new Redis(url, { lazyConnect: true });
  // Each error also rejects the call that it concerns.
  client.on('error', () => {});
  return {
    async read(account) {
      const text = await client.get(prefix + account);
      return text === null ? NOTHING : totalCodec.decode(text);
    },
    async write(account, total) {
      await client.set(prefix + account, totalCodec.encode(total));
    },
    close: async () => client.disconnect(),
  };
}

/** Removes every key with the scope's names. The locks end by themselves. */
export async function eraseTotals(url: string, scope: string): Promise<void> {
  const client = new Redis(url);
  client.on('error', () => {});
  try {
    const stream = client.scanStream({ match: `*contribution:${scope}:*`, count: 1_000 });
    for await (const keys of stream as AsyncIterable<string[]>) {
      if (keys.length > 0) await client.unlink(keys);
    }
  } finally {
    client.disconnect();
  }
}

export async function eraseQueues(url: string, queue: string): Promise<void> {
  const connection = await amqplib.connect(url);
  try {
    const channel = await connection.createChannel();
    for (const name of [queue, `${queue}.dead`]) await channel.deleteQueue(name);
  } finally {
    await connection.close();
  }
}
