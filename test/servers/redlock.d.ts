/** The package has types, but not where its own exports say. What the tests use of it. */
declare module 'redlock' {
  export default class Redlock {
    constructor(clients: Iterable<never>, settings?: { readonly retryCount?: number });
    acquire(resources: string[], durationMs: number): Promise<{ release(): Promise<unknown> }>;
  }
}
