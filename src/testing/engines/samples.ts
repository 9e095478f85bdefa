/** Messages and envelopes for cases that do not care what is in them. */
import type { CommitMessage, Envelope } from '../../consumer/contracts.ts';
import type { Token } from '../../core/fence.ts';

const TOKEN_DIGITS = 20;

export function tokenOf(token: number | bigint): Token {
  return { tokenText: String(token).padStart(TOKEN_DIGITS, '0') };
}

/** Published just now, unless said otherwise. */
export function messageOf(id: string, parts: Partial<CommitMessage> = {}): CommitMessage {
  return { id, publishedAtMs: Date.now(), isReplay: false, ...parts };
}

export function envelopeOf(id: string, parts: Partial<Envelope> = {}): Envelope {
  return {
    id,
    content: new TextEncoder().encode(`content of ${id}`),
    contentType: 'text/plain',
    headers: {},
    properties: {},
    publishedAtMs: Date.now(),
    busyCount: 0,
    failedCount: 0,
    isReplay: false,
    ...parts,
  };
}
