/**
 * What one node answers to a claim, read from the form that scripts/step.ts gives it.
 */

export type Vote =
  | { readonly is: 'accepted'; readonly wanted: boolean }
  | {
      readonly is: 'busy';
      /** Until the lease ends by itself; -1 when another waiter looks at that. */
      readonly endsInMs: number;
      readonly ahead: number;
      readonly holder: string | null;
      readonly epoch: number;
      /** Nobody will tell when it is free: a client of another kind holds it, or one that was told has not come yet. */
      readonly isUntold: boolean;
      readonly isHeard: boolean;
    }
  /** The proposed epoch is not above the highest that the node has accepted. */
  | { readonly is: 'low'; readonly epoch: number }
  | { readonly is: 'data'; readonly what: string }
  | { readonly is: 'abstains'; readonly leftMs: number }
  /** The lease that was to be swapped is not on this node. */
  | { readonly is: 'absent' }
  | { readonly is: 'silent'; readonly cause: unknown };

const ACCEPTED: Vote = { is: 'accepted', wanted: false };
const WANTED: Vote = { is: 'accepted', wanted: true };

export function readVote(answer: unknown): Vote {
  if (!Array.isArray(answer)) return Number(answer) === 1 ? WANTED : ACCEPTED;
  const [kind, ...rest] = answer as [unknown, ...unknown[]];
  switch (Number(kind)) {
    case 1: {
      const [endsInMs, ahead, , epoch, untold, heard] = rest.map(Number) as number[];
      const holder = typeof rest[2] === 'string' ? rest[2] : null;
      return {
        is: 'busy',
        endsInMs: endsInMs as number,
        ahead: ahead as number,
        holder,
        epoch: epoch as number,
        isUntold: untold === 1,
        isHeard: heard === 1,
      };
    }
    case 2:
      return { is: 'low', epoch: Number(rest[0]) };
    case 3:
      return { is: 'data', what: String(rest[0]) };
    default:
      return { is: 'abstains', leftMs: Number(rest[0]) };
  }
}
