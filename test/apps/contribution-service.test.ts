/**
 * The service as its users run it: as a process, on the embedded engines, and on RabbitMQ and Redis.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { resolve } from 'node:path';
import { afterEach, describe, expect, it, vi } from 'vitest';
import { removeFolder, temporaryFolder, until } from '../servers/processes.ts';
import { RabbitServer } from '../servers/rabbitmq.ts';
import { RedisServer } from '../servers/redis.ts';
import { lane, TOOLS } from '../servers/require.ts';

// Processes of processes, and a broker: much to start on a busy machine.
vi.setConfig({ testTimeout: 120_000 });

const MAIN = resolve('dist/apps/contribution/main.js');
/** With its stack, when a worker has ended by it. */
const LATE_REDIS = /^\w+: (Redis did not answer|Socket timeout\.) .*\n( +at .*\n)*/gm;

class Service {
  readonly folder = temporaryFolder();
  readonly child: ChildProcess;
  readonly ended: Promise<number | null>;
  out = '';
  err = '';

  constructor(...args: string[]) {
    const all = [MAIN, 'serve', '--port', '0', '--data', this.folder, ...args];
    const child = spawn(process.execPath, all, { stdio: ['ignore', 'pipe', 'pipe'] });
    child.stdout.setEncoding('utf8').on('data', (text: string) => {
      this.out += text;
    });
    child.stderr.setEncoding('utf8').on('data', (text: string) => {
      this.err += text;
    });
    this.child = child;
    this.ended = once(child, 'close').then(([code]) => code as number | null);
  }

  async url(path: string): Promise<string> {
    await until('the service listens', () => this.out.includes('listening on'));
    return `${/http:\/\/\S+(?=,)/.exec(this.out)?.[0]}${path}`;
  }

  async post(body: string, headers: Record<string, string> = {}): Promise<Response> {
    const all = { 'content-type': 'application/json', ...headers };
    return fetch(await this.url('/contributions'), { method: 'POST', body, headers: all });
  }

  async get(path: string): Promise<{ status: number; text: string }> {
    const response = await fetch(await this.url(path));
    return { status: response.status, text: await response.text() };
  }

  /** The pids of its workers; only Linux says so. */
  workers(): number[] {
    const { pid } = this.child;
    const list = readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8').trim();
    return list === '' ? [] : list.split(' ').map(Number);
  }

  async stop(): Promise<number | null> {
    this.child.kill('SIGTERM');
    return this.ended;
  }

  async close(): Promise<void> {
    this.child.kill('SIGKILL');
    await this.ended;
    removeFolder(this.folder);
  }
}

let services: Service[] = [];
afterEach(async () => {
  await Promise.all(services.map((service) => service.close()));
  services = [];
});

function serve(...args: string[]): Service {
  const service = new Service(...args);
  services.push(service);
  return service;
}

/** Posts amounts of 1 to `count` cents at once, each under a key of its own, every tenth twice. */
async function contribute(service: Service, account: string, count: number): Promise<void> {
  const amounts = Array.from({ length: count }, (_, index) => index + 1);
  const twice = amounts.filter((cents) => cents % 10 === 0);
  await Promise.all(
    [...amounts, ...twice].map(async (cents) => {
      const key = `${account.length}-${cents}`;
      const body = JSON.stringify({ account, amount: cents });
      const response = await service.post(body, { 'idempotency-key': key });
      expect(response.status).toBe(202);
      expect(await response.json()).toEqual({ id: key });
    }),
  );
}

function reaches(service: Service, account: string, contributions: number): () => Promise<boolean> {
  return async () => {
    const { status, text } = await service.get(`/contributions/${encodeURIComponent(account)}`);
    return status === 200 && JSON.parse(text).contributions >= contributions;
  };
}

async function expectTotal(service: Service, account: string, count: number): Promise<void> {
  await until('all is applied', reaches(service, account, count));
  const { text } = await service.get(`/contributions/${encodeURIComponent(account)}`);
  const cents = String((count * (count + 1)) / 2);
  expect(JSON.parse(text)).toEqual({ account, cents, contributions: count });
}

/** Neither more nor fewer: none is about to start, or to end. */
async function runs(service: Service, count: number): Promise<boolean> {
  const { text } = await service.get('/metrics');
  const isTold = new RegExp(`^contribution_workers\\{state="running"\\} ${count}$`, 'm').test(text);
  return isTold && service.workers().length === count;
}

/** `forgiven`: what it may complain of. */
async function killsAndScales(service: Service, forgiven?: RegExp): Promise<void> {
  await until('two workers run', () => service.workers().length === 2);
  const [victim] = service.workers();
  await contribute(service, 'maria', 100);
  await until('some are applied', reaches(service, 'maria', 10));
  process.kill(victim as number, 'SIGKILL');
  service.child.kill('SIGTTIN');
  await until('three workers run', () => {
    const workers = service.workers();
    return workers.length === 3 && !workers.includes(victim as number);
  });
  await expectTotal(service, 'maria', 100);
  for (const left of [2, 1]) {
    // One that has died may not have been replaced yet.
    await until('all of them run', () => runs(service, left + 1));
    // One at a time: a signal that is pending already is not counted twice.
    service.child.kill('SIGTTOU');
    await until('one worker less runs', () => runs(service, left));
  }
  await contribute(service, 'åsa / 7', 20);
  await expectTotal(service, 'åsa / 7', 20);
  await until('the metrics tell', async () => {
    const { text } = await service.get('/metrics');
    return /^contribution_applied_total [1-9]/m.test(text) && runs(service, 1);
  });
  expect(await service.stop()).toBe(0);
  expect(forgiven ? service.err.replaceAll(forgiven, '') : service.err).toBe('');
}

const onLinux = describe.skipIf(process.platform !== 'linux');

onLinux('the service on the embedded engines', () => {
  it('is exact with workers killed and scaled, and ends cleanly', async () => {
    await killsAndScales(serve('--workers', '2'));
  });

  it('refuses what is no contribution, with the reason', async () => {
    const service = serve('--workers', '0', '--rate', '1000000');
    const refusals: [string, Record<string, string>, number, string][] = [
      ['{"account":"a","amount":1.5}', {}, 400, 'not a whole number of cents'],
      ['{"account":"a","amount":1e400}', {}, 400, 'not a whole number of cents'],
      ['{"amount":1}', {}, 400, '"account" is missing'],
      ['not json', {}, 400, 'not JSON'],
      ['', {}, 400, 'empty'],
      [`{"account":"${'x'.repeat(201)}","amount":1}`, {}, 400, 'longer than 200'],
      [`{"account":"a","amount":1,"note":"${'x'.repeat(70_000)}"}`, {}, 413, 'too large'],
      ['a=1', { 'content-type': 'application/x-www-form-urlencoded' }, 415, 'Unsupported'],
      ['{"account":"a","amount":1}', { 'idempotency-key': 'x'.repeat(201) }, 400, 'Idempotency'],
    ];
    for (const [body, headers, status, reason] of refusals) {
      const response = await service.post(body, headers);
      const { error } = (await response.json()) as { error: string };
      expect([response.status, error]).toEqual([status, expect.stringContaining(reason)]);
    }
    expect((await service.get('/contributions/nobody')).status).toBe(404);
    expect((await service.get('/elsewhere')).status).toBe(404);
    expect((await service.get('/health')).status).toBe(200);
    expect((await service.get('/ready')).status).toBe(200);
    expect(await service.stop()).toBe(0);
  });

  it('limits the requests of one client', async () => {
    const service = serve('--workers', '0', '--rate', '3');
    const answers = await Promise.all(
      Array.from({ length: 40 }, () => service.get('/contributions/a')),
    );
    expect(answers.filter(({ status }) => status === 429).length).toBeGreaterThan(0);
  });
});

lane('the service on RabbitMQ and Redis', TOOLS.rabbitmq, () => {
  it('is exact with workers killed and scaled, and ends cleanly', async () => {
    const redis = await RedisServer.start();
    const broker = await RabbitServer.start();
    try {
      const service = serve('--workers', '2', '--amqp', broker.url, '--redis', redis.url);
      // On a machine that stalls, Redis may be late.
      await killsAndScales(service, LATE_REDIS);
    } finally {
      await broker.close();
      await redis.close();
    }
  });

  it('takes nothing that the broker does not have, and goes on when it is back', async () => {
    const redis = await RedisServer.start();
    const broker = await RabbitServer.start();
    try {
      const service = serve('--workers', '1', '--amqp', broker.url, '--redis', redis.url);
      await contribute(service, 'maria', 10);
      await expectTotal(service, 'maria', 10);
      await broker.kill();
      const refused = await service.post('{"account":"maria","amount":11}', {
        'idempotency-key': 'maria-11',
      });
      expect(refused.status).toBe(503);
      await broker.startAgain();
      await until('the broker takes it', async () => {
        const again = await service.post('{"account":"maria","amount":11}', {
          'idempotency-key': 'maria-11',
        });
        return again.status === 202;
      });
      await expectTotal(service, 'maria', 11);
      expect(await service.stop()).toBe(0);
    } finally {
      await broker.close();
      await redis.close();
    }
  });
});
