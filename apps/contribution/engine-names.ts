/** Which engines are used, by names. Nothing here loads one. */

export interface EngineNames {
  /** `null`: the embedded engine, here and below. */
  readonly amqp: string | null;
  readonly redis: string | null;
  readonly locks: string | null;
  /** Where the embedded engines keep their files. */
  readonly folder: string;
  /** The queue's name, and what the names of totals and locks begin with. */
  readonly scope: string;
}

/** For people, in a line. */
export function describe({ amqp, redis, locks }: Omit<EngineNames, 'folder' | 'scope'>): string {
  if (amqp === null && redis === null && locks === null) return 'embedded store';
  const scheme = locks?.split(':')[0];
  const names = [
    `queue: ${amqp === null ? 'embedded' : 'RabbitMQ'}`,
    `totals: ${redis === null ? 'embedded' : 'Redis'}`,
  ];
  if (locks !== null) names.push(`locks: ${locks.includes(',') ? 'Redlock' : scheme}`);
  return names.join(', ');
}
