/** Too few nodes have answered to decide anything. What was asked may be done on some of them. */
export class NoQuorumError extends Error {
  constructor(what: string, answered: number, nodes: number, causes: readonly unknown[]) {
    const reasons = new Set(
      causes.map((cause) => (cause instanceof Error ? cause.message : cause)),
    );
    const why = reasons.size > 0 ? `: ${[...reasons].join('; ')}` : ' in time';
    super(`${answered} of ${nodes} nodes answered ${what}${why}`, { cause: causes[0] });
    this.name = 'NoQuorumError';
  }
}
