import type { Via } from './engine.ts';

/** Leads clients of ioredis, which learn addresses from Sentinels and clusters, through the proxies. */
export function natMap(via: Via): Record<string, { host: string; port: number }> {
  return Object.fromEntries(
    Object.entries(via).map(([port, proxy]) => [
      `127.0.0.1:${port}`,
      { host: '127.0.0.1', port: proxy },
    ]),
  );
}
