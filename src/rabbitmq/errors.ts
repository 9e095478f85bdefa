/**
 * What can be wrong with a broker, with a queue, and with a message on its way into it.
 */
import { LeaseholdError } from '../core/errors.ts';

/** `unreachable`: nobody answers; `refused`: the broker answers, and would not have this user, or knows no such host. */
export type BrokerFault = 'unreachable' | 'refused';

const BROKER_FAULTS: Readonly<Record<BrokerFault, string>> = {
  unreachable: 'cannot be reached: start it, correct the url, or wait for longer (openTimeoutMs)',
  refused: 'refuses the connection: give a user, a password and a virtual host that it knows',
};

/** There is no connection to the broker. */
export class BrokerUnavailableError extends LeaseholdError {
  readonly code = 'BROKER_UNAVAILABLE';
  /** Names and ports that were tried; never the user or the password. */
  declare readonly hosts: readonly string[];
  declare readonly fault: BrokerFault;

  constructor(hosts: readonly string[], fault: BrokerFault, cause: unknown) {
    const said = cause instanceof Error ? cause.message : String(cause);
    super(`the broker at ${hosts.join(', ')} ${BROKER_FAULTS[fault]}; the last answer: ${said}`, {
      hosts,
      fault,
      cause,
    });
  }
}

/** `missing`: nobody declared it; `differs`: it was declared in another way; `refused`: this user may not. */
export type QueueFault = 'missing' | 'differs' | 'refused';

const ADVICE: Readonly<Record<QueueFault, string>> = {
  missing: 'declare it, or let the source do it (declare: true)',
  differs: 'give it the same arguments, use another name, or drain and delete it',
  refused: 'give this user the permission, or declare it beforehand (declare: false)',
};

/** A queue cannot be used as it is. Nothing changes that but a person. */
export class QueueUnusableError extends LeaseholdError {
  readonly code = 'QUEUE_UNUSABLE';
  declare readonly queue: string;
  declare readonly fault: QueueFault;

  constructor(queue: string, fault: QueueFault, cause: unknown) {
    const said = cause instanceof Error ? cause.message : String(cause);
    super(`the queue '${queue}' cannot be used: ${ADVICE[fault]}; the broker said: ${said}`, {
      queue,
      fault,
      cause,
    });
  }
}

/**
 * `returned`: no queue takes it; `refused`: the queue would not have it; `overloaded`: too many wait here already;
 * `unavailable`: there is no connection to the broker; `closed`: the publisher was closed. In these cases the message is not in the queue. `unknown`: it may be.
 */
export type PublishFault =
  | 'returned'
  | 'refused'
  | 'overloaded'
  | 'unavailable'
  | 'closed'
  | 'unknown';

const PUBLISH_FAULTS: Readonly<Record<PublishFault, string>> = {
  returned: 'no queue of that name takes it',
  refused: 'the queue refused it',
  overloaded: 'too many messages wait to be published; publish it later',
  unavailable: 'it was not sent; publish it again when the broker is back',
  closed: 'the publisher is closed',
  unknown: 'it may be in the queue, or not; publish it again with the same id',
};

/** A message was not published, or nobody knows. */
export class NotPublishedError extends LeaseholdError {
  readonly code = 'NOT_PUBLISHED';
  declare readonly queue: string;
  declare readonly fault: PublishFault;

  constructor(queue: string, fault: PublishFault, cause?: unknown) {
    const said = cause instanceof Error ? `: ${cause.message}` : '';
    super(`a message for '${queue}' was not published: ${PUBLISH_FAULTS[fault]}${said}`, {
      queue,
      fault,
      cause,
    });
  }
}

/** Why nobody knows, where the connection was there all the time and the queue said nothing. */
export class ConfirmTimeout extends Error {
  constructor(timeoutMs: number) {
    super(`not confirmed in ${timeoutMs} ms`);
  }
}

/** For an error with which the broker closed a channel over a queue; `null` when trying again may help. */
export function queueFault(error: unknown): QueueFault | null {
  const { code, message } = error as { readonly code?: unknown; readonly message?: unknown };
  // So the broker says that a queue exists whose members cannot be reached at the moment.
  if (/down or inaccessible|stopped|minority/.test(String(message))) return null;
  switch (code) {
    case 403:
      return 'refused';
    case 404:
      return 'missing';
    case 406:
      return 'differs';
    default:
      return null;
  }
}
