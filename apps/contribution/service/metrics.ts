/**
 * What the workers count, added up for Prometheus. Counters of a worker that has ended stay in the sum.
 */
import { Counter, collectDefaultMetrics, Gauge, Registry } from 'prom-client';
import type { Pool } from './pool.ts';

type Numbers = Readonly<Record<string, number>>;

/** What goes up and down; everything else that a worker reports only counts up. */
const GAUGES: ReadonlySet<string> = new Set(['unsettled', 'outboxEntries', 'outboxOldestAgeMs']);

export class Metrics {
  readonly #registry = new Registry();
  readonly #latest = new Map<number, Numbers>();
  readonly #counters = new Map<string, Counter>();
  readonly #gauges = new Map<string, Gauge>();
  readonly #workers: Gauge<'state'>;

  constructor() {
    collectDefaultMetrics({ register: this.#registry });
    this.#workers = new Gauge({
      name: 'contribution_workers',
      help: 'Worker processes that are wanted, and that run',
      labelNames: ['state'],
      registers: [this.#registry],
    });
  }

  /** The latest figures of one worker. */
  hear(pid: number, figures: Numbers): void {
    const before = this.#latest.get(pid) ?? {};
    this.#latest.set(pid, figures);
    for (const [name, value] of Object.entries(figures)) {
      if (GAUGES.has(name)) continue;
      const grown = value - (before[name] ?? 0);
      if (grown > 0) this.#counter(name).inc(grown);
    }
  }

  forget(pid: number): void {
    this.#latest.delete(pid);
  }

  async read(pool: Pool): Promise<{ contentType: string; text: string }> {
    this.#workers.set({ state: 'wanted' }, pool.size);
    this.#workers.set({ state: 'running' }, pool.running);
    for (const name of GAUGES) {
      let sum = 0;
      for (const figures of this.#latest.values()) sum += figures[name] ?? 0;
      this.#gauge(name).set(sum);
    }
    const text = await this.#registry.metrics();
    return { contentType: this.#registry.contentType, text };
  }

  #counter(name: string): Counter {
    let counter = this.#counters.get(name);
    if (!counter) {
      counter = new Counter({
        name: `contribution_${snake(name)}_total`,
        help: `Sum over all workers: ${words(name)}`,
        registers: [this.#registry],
      });
      this.#counters.set(name, counter);
    }
    return counter;
  }

  #gauge(name: string): Gauge {
    let gauge = this.#gauges.get(name);
    if (!gauge) {
      gauge = new Gauge({
        name: `contribution_${snake(name)}`,
        help: `Over all workers, now: ${words(name)}`,
        registers: [this.#registry],
      });
      this.#gauges.set(name, gauge);
    }
    return gauge;
  }
}

function snake(name: string): string {
  return name.replaceAll(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);
}

function words(name: string): string {
  return snake(name).replaceAll('_', ' ');
}
