/**
 * The face of the service: contributions come in over HTTP, and totals are looked at.
 *
 * | request                      | answers                                                                                |
 * |------------------------------|----------------------------------------------------------------------------------------|
 * | `POST /contributions`        | 202 once the queue has it for good; 400, 413, 415, 429, or 503 when it is out of reach |
 * | `GET /contributions/ACCOUNT` | the total, in cents as text; 404 when there is none                                    |
 * | `GET /health`                | 200 while the process lives                                                            |
 * | `GET /ready`                 | 200 while queue, state and workers are there, otherwise 503                            |
 * | `GET /metrics`               | for Prometheus                                                                         |
 *
 * Who is not sure whether a request was taken, sends it again with the same `Idempotency-Key`: it counts once.
 */
import rateLimit from '@fastify/rate-limit';
import fastify, { type FastifyInstance, type FastifyReply } from 'fastify';
import { type Contribution, LIMITS, parseContribution, type Total } from '../contribution.ts';

export interface HttpParts {
  /** Resolves when the queue has the contribution for good. */
  publish(id: string, contribution: Contribution): Promise<void>;
  total(account: string): Promise<Total | null>;
  /** What is missing for the service to work, in words; `null` when nothing is. */
  whatIsMissing(): Promise<string | null>;
  metrics(): Promise<{ readonly contentType: string; readonly text: string }>;
  /** A fault that the client hears nothing of but "try again". */
  onFault(cause: unknown): void;
}

export interface HttpLimits {
  readonly maxRequestsPerSecond: number;
}

const REQUEST_TIMEOUT_MS = 10_000;
const RETRY_AFTER_S = 1;
/** What an `Idempotency-Key` may be: it becomes the id of a message. */
const MESSAGE_ID = /^[\x21-\x7e]{1,200}$/;

export async function makeHttp(parts: HttpParts, limits: HttpLimits): Promise<FastifyInstance> {
  const server = fastify({
    bodyLimit: LIMITS.lineBytes,
    requestTimeout: REQUEST_TIMEOUT_MS,
    routerOptions: { maxParamLength: LIMITS.accountLength * 12 },
    forceCloseConnections: 'idle',
  });
  await server.register(rateLimit, {
    max: limits.maxRequestsPerSecond,
    timeWindow: 1_000,
  });
  // Amounts are checked as they were written: a JSON number would be rounded before anybody could look at it.
  server.removeAllContentTypeParsers();
  server.addContentTypeParser('application/json', { parseAs: 'buffer' }, (_request, body, done) =>
    done(null, body),
  );
  server.setNotFoundHandler((_request, reply) => refuse(reply, 404, 'there is nothing here'));
  server.setErrorHandler((error: Error & { statusCode?: number }, _request, reply) => {
    const status = error.statusCode ?? 500;
    if (status < 500) return refuse(reply, status, error.message);
    parts.onFault(error);
    return refuse(reply, status, 'something went wrong here');
  });
  addContributions(server, parts);
  addLooks(server, parts);
  return server;
}

function addContributions(server: FastifyInstance, parts: HttpParts): void {
  server.post('/contributions', async (request, reply) => {
    const { body } = request;
    const parsed = parseContribution(Buffer.isBuffer(body) ? body : Buffer.alloc(0));
    if (parsed.is !== 'contribution') {
      return refuse(reply, 400, parsed.is === 'blank' ? 'the body is empty' : parsed.reason);
    }
    const id = request.headers['idempotency-key'] ?? crypto.randomUUID();
    if (typeof id !== 'string' || !MESSAGE_ID.test(id)) {
      return refuse(reply, 400, 'Idempotency-Key is 1 to 200 printable characters without blanks');
    }
    return orUnavailable(reply, parts, async () => {
      await parts.publish(id, parsed.contribution);
      return reply.code(202).send({ id });
    });
  });

  server.get<{ Params: { account: string } }>('/contributions/:account', (request, reply) => {
    const { account } = request.params;
    return orUnavailable(reply, parts, async () => {
      const total = await parts.total(account);
      if (total === null) return refuse(reply, 404, 'no contribution to this account was applied');
      const { cents, contributions } = total;
      return reply.send({ account, cents: cents.toString(), contributions });
    });
  });
}

function addLooks(server: FastifyInstance, parts: HttpParts): void {
  server.get('/health', () => ({ status: 'alive' }));
  server.get('/ready', async (_request, reply) => {
    const missing = await parts.whatIsMissing();
    if (missing !== null) return refuse(reply, 503, missing);
    return reply.send({ status: 'ready' });
  });
  server.get('/metrics', async (_request, reply) => {
    const { contentType, text } = await parts.metrics();
    return reply.header('content-type', contentType).send(text);
  });
}

/** An engine that is out of reach is not the client's fault, and its words may hold what is not for strangers. */
async function orUnavailable(
  reply: FastifyReply,
  parts: HttpParts,
  work: () => Promise<FastifyReply>,
): Promise<FastifyReply> {
  try {
    return await work();
  } catch (cause) {
    parts.onFault(cause);
    reply.header('retry-after', RETRY_AFTER_S);
    return refuse(reply, 503, 'out of reach at the moment; send it again, with the same key');
  }
}

function refuse(reply: FastifyReply, status: number, error: string): FastifyReply {
  return reply.code(status).send({ error });
}
