/**
 * `leasehold dead-letters` on a real broker and on a folder, as a person runs it.
 */
import { execFile } from 'node:child_process';
import { join } from 'node:path';
import type { DeadLetterReason, Delivery, MessageSource } from 'leasehold/consumer';
import { embeddedPublisher, embeddedSource } from 'leasehold/embedded';
import { publisher, rabbitmq } from 'leasehold/rabbitmq';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { removeFolder, temporaryFolder, until } from '../servers/processes.ts';
import { BROKER_START_MS, RabbitServer } from '../servers/rabbitmq.ts';
import { lane, TOOLS } from '../servers/require.ts';

const MAIN = join(import.meta.dirname, '../../dist/src/cli/main.js');

interface Outcome {
  readonly code: number;
  readonly out: string;
  readonly error: string;
}

function call(...args: readonly string[]): Promise<Outcome> {
  return new Promise((resolve) => {
    execFile(process.execPath, [MAIN, 'dead-letters', ...args], (failure, out, error) => {
      resolve({ code: failure === null ? 0 : Number(failure.code), out, error });
    });
  });
}

describe('the command line', () => {
  test.each([
    [['list', '--queue', 'q'], 2, /--amqp amqp:/],
    [['list', '--path', 'a', '--amqp', 'amqp://h', '--queue', 'q'], 2, /--amqp amqp:/],
    [['list', '--path', 'a'], 2, /--queue NAME/],
    [['list', '--path', 'a', '--queue', 'q', '--limit', 'x'], 2, /--limit is/],
    [['replay', '--path', 'a', '--queue', 'q'], 2, /or give --all/],
    [['replay', '--path', 'a', '--queue', 'q', '--all', '--id', 'i'], 2, /or give --all/],
    [['list', '--amqp', 'http://h', '--queue', 'q'], 2, /amqp:\/\/ or amqps:/],
    [['list', '--amqp', 'amqp://127.0.0.1:1', '--queue', 'q'], 1, /ECONNREFUSED/],
  ])('%j ends with %d', async (args, code, message) => {
    const outcome = await call(...args);
    expect(outcome.code).toBe(code);
    expect(outcome.error).toMatch(message);
  });
});

/** Two letters, listed and replayed one after the other. */
async function listAndReplay(source: MessageSource, place: readonly string[]): Promise<void> {
  const ids: (string | null)[] = [];
  const wanted: { id: string; reason: DeadLetterReason }[] = [
    { id: 'first\u001b[31m', reason: 'failed' },
    { id: 'second', reason: 'busy' },
  ];
  const bury = async (delivery: Delivery): Promise<void> => {
    const { envelope } = delivery;
    const letter = envelope.isReplay ? undefined : wanted.find(({ id }) => id === envelope.id);
    if (letter) await source.deadLetter([envelope], { reason: letter.reason, detail: 'it threw' });
    await source.acknowledge([delivery]);
    ids.push(envelope.id);
  };
  await source.open({
    delivered: (delivery) => void bury(delivery),
    failed() {},
  });
  const listed = async (...more: string[]): Promise<string[]> =>
    (await call('list', ...place, ...more)).out.split('\n').slice(1, -1);
  await until('both are listed', async () => (await listed()).length === 2);
  // What comes from anywhere must not steer the terminal.
  expect((await listed()).join('\n')).not.toContain('\u001b');
  expect(await listed('--reason', 'busy')).toEqual([expect.stringContaining('second')]);
  const json = await call('list', ...place, '--json', '--id', 'second');
  expect(JSON.parse(json.out)).toMatchObject({
    id: 'second',
    reason: 'busy',
    detail: 'it threw',
    body: 'b',
  });

  expect((await call('replay', ...place, '--id', 'second')).out).toBe('1 replayed\n');
  await until('it is back', () => ids.filter((id) => id === 'second').length === 2);
  await until('one is left', async () => (await listed()).length === 1);
  expect((await call('replay', ...place, '--all', '--json')).out).toBe('{"replayed":1}\n');
  await until('both are back', () => ids.length === 4);
  expect(await listed()).toEqual([]);
  await source.close();
}

test('dead letters of a folder', async () => {
  const path = temporaryFolder();
  const place = { path, queue: 'q' };
  const producer = embeddedPublisher(place);
  for (const id of ['first\u001b[31m', 'second']) await producer.publish({ id, content: 'b' });
  await listAndReplay(embeddedSource(place), ['--path', path, '--queue', 'q']);
  await producer.close();
  removeFolder(path);
});

lane('dead letters of RabbitMQ', TOOLS.rabbitmq, () => {
  let server: RabbitServer;
  beforeAll(async () => {
    server = await RabbitServer.start();
  }, BROKER_START_MS);
  afterAll(() => server?.close());

  test('are listed and replayed', async () => {
    const place = { url: server.url, queue: 'q' };
    const producer = publisher(place);
    for (const id of ['first\u001b[31m', 'second']) await producer.publish({ id, content: 'b' });
    await listAndReplay(rabbitmq(place), ['--amqp', server.url, '--queue', 'q']);
    await producer.close();
  });

  test('a queue that is missing is named', async () => {
    const { code, error } = await call('list', '--amqp', server.url, '--queue', 'other');
    expect(code).toBe(1);
    expect(error).toMatch(/'other\.dead' cannot be used/);
  });
});
